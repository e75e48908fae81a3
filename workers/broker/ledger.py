"""Figures on their way to the database: every process adds to them, one process writes them.

Redis adds them up. What waits there is taken as a batch with a name, and the database keeps the
names of the batches that it has: so each figure is written once, whichever process dies when.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import uuid4

from workers.broker.connection import connection, script

FIGURES = "velo:figures"  # a hash: field to number
LOSSES = "velo:losses"  # a list: what put_back.lua says of each dead worker
TAKEN = ("velo:taken:figures", "velo:taken:losses", "velo:taken")  # of the batch: and its name
TOTALS = "velo:totals"  # a hash: field to number; they only grow, and nobody takes them
PACKET = "velo:packet:"  # and a process: the number of its last packet
PACKET_KEPT = 86_400  # seconds
FIELDS_AT_MOST = 100_000  # that wait while the database is away; some 8 MB

Field = tuple[str, ...]


@dataclass(frozen=True)
class Packet:
    """Figures of one process. Fields are tuples of words."""

    sums: Mapping[Field, float] = field(default_factory=dict)  # are added up
    minima: Mapping[Field, float] = field(default_factory=dict)  # the least number counts
    totals: Mapping[Field, float] = field(default_factory=dict)  # are added to TOTALS

    def __bool__(self) -> bool:
        return bool(self.sums or self.minima or self.totals)


class Sender:
    """Sends a process's packets, each until Redis has it."""

    def __init__(self) -> None:
        self._key = f"{PACKET}{uuid4().hex}"
        self._number = 0
        self._unsent: Packet | None = None

    def resend(self) -> None:
        """The packet that may not have arrived, if there is one. Raises RedisError."""
        if self._unsent:
            self._send(self._unsent)

    def send(self, packet: Packet) -> None:
        """Call `resend` before. Raises RedisError: then the packet is kept for `resend`."""
        if not packet:
            return
        assert self._unsent is None
        self._number += 1
        self._unsent = packet
        self._send(packet)

    def _send(self, packet: Packet) -> None:
        script("count")(
            keys=[FIGURES, self._key, TOTALS],
            args=[
                *(self._number, PACKET_KEPT, FIELDS_AT_MOST, len(packet.sums), len(packet.minima)),
                *_flat(packet.sums),
                *_flat(packet.minima),
                *_flat(packet.totals),
            ],
            client=connection(),
        )
        self._unsent = None


@dataclass(frozen=True)
class Batch:
    """What the database is to take at once."""

    name: str
    figures: Mapping[Field, float]
    losses: Sequence[Mapping[str, Any]]  # worker, why, rescued, failed


def take() -> Batch | None:
    """All that waits, or the batch that was taken last and isn't settled. Raises RedisError."""
    found = cast(
        list[Any],
        script("take")(
            keys=[FIGURES, LOSSES, *TAKEN],
            args=[uuid4().hex],
            client=connection(),
        ),
    )
    if not found:
        return None
    name, pairs, losses = found
    return Batch(
        name.decode(),
        {
            tuple(json.loads(key)): float(number)
            for key, number in zip(pairs[::2], pairs[1::2], strict=True)
        },
        [json.loads(loss) for loss in losses],
    )


def is_waiting() -> bool:
    """Whether there is something to take. Raises RedisError."""
    return bool(connection().exists(FIGURES, LOSSES, *TAKEN))


def settle(batch: Batch, left: Mapping[Field, float] | None = None) -> None:
    """The database has it, except for `left`, which waits again. Raises RedisError."""
    script("settle")(
        keys=[FIGURES, *TAKEN], args=[batch.name, *_flat(left or {})], client=connection()
    )


def _flat(numbers: Mapping[Field, float]) -> list[str]:
    return [word for key, number in numbers.items() for word in (json.dumps(key), repr(number))]

"""Which of the registered workers seem to be dead, without asking for all of them."""

import random
import time
from dataclasses import dataclass
from typing import Any, cast

from workers.broker import leases
from workers.broker.connection import connection, script
from workers.broker.leases import Registration
from workers.broker.names import EVERYBODY, leases_key
from workers.host import machine

EXPIRED_AT_MOST = 100  # in one look; the next look finds the rest
# By all workers together. Each reads the whole registry so seldom that all of them do it so often.
FULL_LOOKS_A_SECOND = 4


@dataclass(frozen=True)
class Missed:
    """Registrations of workers that seem to be dead."""

    gone: list[Registration]  # whose processes have ended on this machine
    silent: list[Registration]  # whose leases are all over


class Roster:
    """What one process knows of the registry.

    Each look asks only whose lease is over, and whether a registration at this place has changed;
    the whole registry is read when one has, or after a while that grows with the number of
    workers. Only then a worker is found whose lease has vanished, or that an older Velo has
    registered, which counts no changes: by one of the workers within a second. What is found here
    may be out of date; put_back.lua looks again.
    """

    def __init__(self) -> None:
        self._seen: tuple[bytes, int] | None = None  # the counter, and how many are registered
        self._here: list[Registration] = []
        self._read_again = 0.0  # when, on the monotonic clock

    def forget(self) -> None:
        """What is known is out of date."""
        self._seen = None

    def look(self, judge_leases: bool) -> Missed:
        """One round trip, unless there is something to see. Raises RedisError."""
        place = machine.place()
        counter, count, *pairs = cast(
            list[Any],
            script("look")(
                keys=[leases.REGISTRY, leases_key(EVERYBODY), leases.changes_key(place)],
                args=[EXPIRED_AT_MOST if judge_leases else 0],
                client=connection(),
            ),
        )
        expired = [
            Registration(worker.decode(), entry.decode())
            for worker, entry in zip(pairs[::2], pairs[1::2], strict=True)
        ]
        if (counter, count) != self._seen or time.monotonic() > self._read_again:
            expired = everybody = leases.registered()
            self._here = [one for one in everybody if one.is_at(place)]
            self._seen = counter, count
            chance = random.uniform(0.5, 1.5)  # noqa: S311 # nosec B311 # no secret
            self._read_again = time.monotonic() + chance * count / FULL_LOOKS_A_SECOND
        suspected = [one for one in expired if one.is_readable()] if judge_leases else []
        return Missed(
            gone=[one for one in self._here if one.process_is_gone()],
            silent=leases.over(suspected) if suspected else [],
        )

"""Which of the registered workers seem to be dead, without asking for all of them."""

import time
from dataclasses import dataclass
from random import SystemRandom
from typing import Any, cast

from workers.broker import leases
from workers.broker.connection import connection, script
from workers.broker.leases import Registration
from workers.broker.names import EVERYBODY, leases_key
from workers.host import machine

EXPIRED_AT_MOST = 100  # in one look; the next look finds the rest
# By all workers together: each asks Redis the more seldom the more workers there are, since a
# death that one sees is seen. Up to ASK_ALWAYS workers each asks at every look.
ASK_ALWAYS, LOOKS_A_SECOND = 100, 200
FULL_LOOKS_A_SECOND = 4  # likewise; that read the whole registry


@dataclass(frozen=True)
class Missed:
    """Registrations of workers that seem to be dead."""

    gone: list[Registration]  # whose processes have ended on this machine
    silent: list[Registration]  # whose leases are all over


class Roster:
    """What one process knows of the registry.

    A look asks only whose lease is over, and whether a registration at this place has changed. The
    whole registry is read after such a change, or after a while that grows with the number of
    workers. Only then a worker is found whose lease has vanished, or whose registration an older
    Velo has changed, which counts no changes: by one of the workers within a second. What is found
    here may be out of date; put_back.lua looks again.
    """

    def __init__(self) -> None:
        # The counter, and how many are registered, if they are few.
        self._seen: tuple[bytes, int] | None = None
        self._here: list[Registration] = []
        self._ask_again = self._read_again = 0.0  # when, on the monotonic clock

    def forget(self) -> None:
        """What is known is out of date."""
        self._seen = None
        self._ask_again = 0.0

    def look(self, judge_leases: bool) -> Missed:
        """One round trip, or none, unless there is something to see. Raises RedisError."""
        asks = time.monotonic() >= self._ask_again
        expired = self._ask(judge_leases) if asks else []
        return Missed(
            gone=[one for one in self._here if one.process_is_gone()],
            silent=leases.over(expired) if expired else [],
        )

    def _ask(self, judge_leases: bool) -> list[Registration]:
        """Renew what is known of this place; returns whose lease may be over, if that is asked."""
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
        # An older Velo's workers come without being counted; many come and go elsewhere.
        seen = counter, min(count, ASK_ALWAYS + 1)
        if seen != self._seen or time.monotonic() > self._read_again:
            expired = everybody = leases.registered()
            self._here = [one for one in everybody if one.is_at(place)]
            self._seen = seen
            self._read_again = _after(count / FULL_LOOKS_A_SECOND)
        self._ask_again = _after(count / LOOKS_A_SECOND) if count > ASK_ALWAYS else 0.0
        return [one for one in expired if one.is_readable()] if judge_leases else []


def _after(seconds: float) -> float:
    """About so long from now, on the monotonic clock."""
    return time.monotonic() + seconds * SystemRandom().uniform(0.5, 1.5)

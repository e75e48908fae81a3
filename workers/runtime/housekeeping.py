"""What one elected worker does for all: it writes reports, concludes, publishes, and prunes."""

import logging
import time
from contextlib import suppress
from importlib import import_module

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections
from django.utils import timezone
from redis.exceptions import RedisError

from workers.broker import ledger, reports
from workers.broker.connection import connection
from workers.broker.election import Seat
from workers.catalog import clients, lifecycle, plan
from workers.models import prune
from workers.runtime import bookkeeping

log = logging.getLogger(__name__)

SEAT = "velo:housekeeper"
SEAT_KEPT = 3.0  # seconds after which another worker takes over from a silent one
LEFT_WITHIN = 2.0  # seconds, longer than the holder of the seat takes from tick to tick
POLL = 0.05  # seconds between two looks whether a last report is written
PAUSE = 5.0  # seconds that a worker without a database doesn't stand again
PRUNED = "velo:pruned"  # when; as long as this key is there nothing is pruned
PRUNE_EVERY = 86_400  # seconds
PRUNE_AGAIN = 600  # seconds until a pruning that failed is tried again


class Housekeeper:
    """Stands for the seat at each tick. Every step may be done by two workers at the same time:
    each moves a row only from the state in which it found it, or writes what the database says."""

    def __init__(self) -> None:
        self._seat = Seat(SEAT, SEAT_KEPT)
        self._is_elected = False
        self._stands_again = -float("inf")  # by the monotonic clock

    def tick(self) -> None:
        """Do the work if this worker is elected. A worker whose database is away leaves it to the
        others. Raises RedisError, DatabaseError or InterfaceError."""
        if time.monotonic() < self._stands_again:
            return
        was_elected, self._is_elected = self._is_elected, self._seat.hold()
        if not self._is_elected:
            if was_elected:
                connections.close_all()
            return
        try:
            self._work()
        except (DatabaseError, InterfaceError):
            self._stands_again = time.monotonic() + PAUSE
            with suppress(RedisError):
                self._seat.resign()
            raise

    def leave(self, worker: str) -> None:
        """At the end of `worker`, which has sent its last report: see that it is written, by this
        process if no other is elected. Gives up after LEFT_WITHIN.

        Raises RedisError, DatabaseError or InterfaceError.
        """
        give_up = time.monotonic() + LEFT_WITHIN
        while time.monotonic() < give_up:
            if self._seat.hold():
                try:
                    bookkeeping.write()
                finally:
                    self._seat.resign()
            if not reports.is_waiting(worker) and not ledger.is_waiting():
                return
            time.sleep(POLL)

    def _work(self) -> None:
        bookkeeping.write()
        lifecycle.give_up_silent_checks()
        lifecycle.conclude()
        plan.publish()
        clients.publish()
        if connection().set(PRUNED, "begun", nx=True, ex=PRUNE_AGAIN):
            log.info("pruned: %s", prune())
            clear_sessions()
            connection().set(PRUNED, timezone.now().isoformat(), ex=PRUNE_EVERY)


def clear_sessions() -> None:
    """Delete the admin sessions that are over, as `manage.py clearsessions` does."""
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()

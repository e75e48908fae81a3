"""The figures of the whole system, for /stat and the admin alike."""

import logging
import time
from collections.abc import Sequence
from typing import Any

from django.db import InterfaceError, OperationalError

from workers.broker.enqueue import live_workers, waiting
from workers.broker.names import QUEUE
from workers.metrics.latency import response_time
from workers.models import Worker
from workers.values.figures import BatchFigures

log = logging.getLogger(__name__)

PAUSE = 5.0  # seconds between two tries to read a database that is away


class LastKnown:
    """The live workers, as this process last read them from the database."""

    def __init__(self) -> None:
        self._known: tuple[list[Worker], float] | None = None  # and when, by the monotonic clock
        self._again = 0.0  # when to try again, if the database is away

    def read(self, leased: int) -> tuple[Sequence[Worker], float]:
        """And their age in seconds, 0 unless the database is away, or doesn't let any of the
        `leased` workers write. One query.

        Raises OperationalError or InterfaceError if it is away and nothing is known.
        """
        now = time.monotonic()
        if self._again:
            if now < self._again:
                return self._remember(OperationalError("It was away a moment ago."))
            self._again = now + PAUSE  # one request tries, and may have to wait; the others go on
        try:
            workers = list(Worker.objects.alive().order_by("started"))
        except (OperationalError, InterfaceError) as error:
            log.warning("the database is away: %s", error)
            self._again = time.monotonic() + PAUSE
            return self._remember(error)
        self._again = 0.0
        if self._known is None or len(workers) >= leased:
            self._known = workers, now
        elif not workers:  # they live, but can't write it down
            return self._remember(OperationalError("No worker can write to it."))
        return workers, 0.0

    def _remember(self, error: Exception) -> tuple[list[Worker], float]:
        if self._known is None:
            raise error
        workers, at = self._known
        return workers, time.monotonic() - at


_live_workers = LastKnown()


def live(leased: int) -> tuple[Sequence[Worker], float]:
    """The live workers, and the age of this in seconds; see `LastKnown.read`."""
    return _live_workers.read(leased)


def stat() -> dict[str, Any]:
    """One database query. The same in whichever process it is asked, as
    long as the database answers; else each knows what it last read.

    Raises OperationalError or InterfaceError if the database is away and nothing is known.
    """
    workers, age = live(live_workers())
    by_version: dict[str, list[dict[str, Any]]] = {}
    for worker in workers:
        for label in worker.serves:
            by_version.setdefault(label, []).append(worker.held[label]["batches"])
    inputs = waiting([QUEUE, *by_version])
    return {
        "workers": {
            worker.id: {
                "last_seen": worker.last_seen.isoformat(),
                "model_version": next(iter(worker.serves), None),
                "model_versions": worker.serves,
                "node_name": worker.node,
                "model_time": worker.model_time,
                "batches": BatchFigures(worker.batches).for_people(),
            }
            for worker in workers
        },
        "model_versions": {
            version: {"workers": len(kept), "batches": BatchFigures.sum(kept).for_people()}
            for version, kept in by_version.items()
        },
        "queue_lenght": inputs,
        "queue_length": inputs,
        "response_time": response_time(),
        "database_age": round(age, 3),
    }

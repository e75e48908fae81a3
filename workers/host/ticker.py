"""A thread that does one thing again and again, whatever happens to it."""

import logging
import threading
from collections.abc import Callable
from random import SystemRandom

from django.db import close_old_connections, connections

log = logging.getLogger(__name__)

JITTER = 0.05  # of an interval


class Ticker(threading.Thread):
    """Calls `work` every `interval` seconds, from its start until `stop`.

    The second call comes sooner, and each interval is a little longer or shorter: so the tickers of
    many processes that were started together don't all ask at the same moment.

    An error is logged, once until the next success, and the next tick tries again: a database or a
    Redis that is away for a while must not end the thread.
    """

    def __init__(self, name: str, interval: float, work: Callable[[], object]) -> None:
        super().__init__(name=name, daemon=True)
        self.interval = interval
        self._work = work
        self._ended = False
        self._due = threading.Event()  # before its time
        self._last: Callable[[], object] | None = None
        self._failing = False

    def run(self) -> None:
        """The thread's work; `start` calls it."""
        self.tick()
        chance = SystemRandom()  # the module's own generator may be seeded by others
        pause = self.interval * chance.random()
        while True:
            self._due.wait(pause)
            self._due.clear()
            if self._ended:
                break
            self.tick()
            pause = self.interval * chance.uniform(1 - JITTER, 1 + JITTER)
        if self._last:
            self._work = self._last
            self.tick()
        connections.close_all()

    def tick(self) -> None:
        """Do the work once. An error is logged, not raised."""
        try:
            close_old_connections()
            self._work()
            self._failing = False
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread must live on
            if not self._failing:
                then = "" if self._ended else "; trying again"
                log.warning("%s: %s: %s%s", self.name, type(error).__name__, error, then)
            self._failing = True

    def hurry(self) -> None:
        """The next call is due now."""
        self._due.set()

    def stop(self, last: Callable[[], object] | None = None, within: float | None = None) -> bool:
        """Let the thread end, with `last` as its last tick; returns whether it did so
        within `within` seconds."""
        self._last = last
        self._ended = True
        self._due.set()
        if self.is_alive():
            self.join(within)
        return not self.is_alive()

"""A thread that does one thing again and again, whatever happens to it."""

import logging
import threading
from collections.abc import Callable

from django.db import close_old_connections, connections

log = logging.getLogger(__name__)


class Ticker(threading.Thread):
    """Calls `work` every `interval` seconds, from its start until `stop`.

    An error is logged, once until the next success, and the next tick tries again: a database or a
    Redis that is away for a while must not end the thread.
    """

    def __init__(self, name: str, interval: float, work: Callable[[], object]) -> None:
        super().__init__(name=name, daemon=True)
        self.interval = interval
        self._work = work
        self._ended = threading.Event()
        self._failing = False

    def run(self) -> None:
        self.tick()
        while not self._ended.wait(self.interval):
            self.tick()
        connections.close_all()

    def tick(self) -> None:
        try:
            close_old_connections()
            self._work()
            self._failing = False
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread must live on
            if not self._failing:
                log.warning("%s: %s: %s; trying again", self.name, type(error).__name__, error)
            self._failing = True

    def stop(self) -> None:
        """Returns when the last tick is over."""
        self._ended.set()
        if self.is_alive():
            self.join()

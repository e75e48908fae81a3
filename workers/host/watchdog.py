"""Ends this process when it hangs; live workers then put its jobs back."""

import faulthandler
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings

log = logging.getLogger(__name__)

GRACE = 2.0  # seconds in which Python's own timeout may still do it
PAUSED = 2.0  # seconds between two looks that say that the process itself was stopped


class Watchdog:
    """`expect` says how long a step may take; another thread calls `look` again and again."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._ends: dict[object, float] = {}  # of the steps that go on, by the monotonic clock
        self._looked = time.monotonic()

    @contextmanager
    def expect(self, seconds: float | None) -> Iterator[None]:
        """What is done in this context takes no longer; otherwise the process is ended, whether it
        hangs in Python or in C. None: it may take any time."""
        step = object()
        allowed = math.inf if seconds is None else seconds + GRACE
        with self._lock:
            self._ends[step] = time.monotonic() + allowed
        if allowed > settings.VELO_JOB_TIMEOUT + GRACE:
            self._arm()
        try:
            yield
        finally:
            with self._lock:
                del self._ends[step]

    def look(self) -> None:
        """Kill this process with SIGKILL if a step is over its time."""
        now = time.monotonic()
        paused = now - self._looked
        self._looked = now
        with self._lock:
            if paused > PAUSED:  # we were stopped, and so was the step
                self._ends = {step: end + paused for step, end in self._ends.items()}
            late = any(end < now for end in self._ends.values())
        if late:
            log.critical("worker %s hangs, and is killed; where it hangs:", self._name)
            faulthandler.dump_traceback(sys.__stderr__ or 2)
            os.kill(os.getpid(), signal.SIGKILL)
        self._arm()

    def _arm(self) -> None:
        """If some C code never lets Python run, `look` isn't called: then this ends the process,
        after the longest time that a step in progress, or the next step, may take."""
        with self._lock:
            ends = list(self._ends.values())
        allowed = settings.VELO_JOB_TIMEOUT + GRACE
        allowed = max([allowed, *(end - time.monotonic() for end in ends)])
        if math.isinf(allowed):
            faulthandler.cancel_dump_traceback_later()
        else:
            faulthandler.dump_traceback_later(allowed, exit=True, file=sys.__stderr__ or 2)

    def rest(self) -> None:
        """Nobody looks from now on."""
        faulthandler.cancel_dump_traceback_later()

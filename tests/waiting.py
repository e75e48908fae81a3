"""Waiting for a condition with a deadline: no test sleeps and hopes."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
POLL = 0.05
# A deadline is for what never comes. On a machine that is busy with other things, what comes takes
# several times as long as on a quiet one.
SLACK = 4.0


def eventually(condition: Callable[[], T], seconds: float = 20.0) -> T:
    """The first true value of `condition`; fails when there is none within `seconds`, on a machine
    that is quiet, or SLACK times as long on any."""
    give_up = time.monotonic() + seconds * SLACK
    pause = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < give_up, f"not within {seconds * SLACK:g} s: {condition}"
        pause.wait(POLL)

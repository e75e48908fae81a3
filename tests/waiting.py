"""Waiting for a condition with a deadline: no test sleeps and hopes."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
POLL = 0.05


def eventually(condition: Callable[[], T], seconds: float = 20.0) -> T:
    """The first true value of `condition`; fails when there is none within `seconds`."""
    give_up = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < give_up, f"not within {seconds} s: {condition}"
        pause.wait(POLL)

"""Tests that run at the same time in several processes, and those that must run alone."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def turn(shared: Path, alone: bool) -> Iterator[None]:
    """In this context no test runs that is `alone`, and if this one is, no other test runs.

    A test that waits to be alone keeps the door shut, so that no other test can go before it.
    """
    with (shared / "door").open("w") as door, (shared / "room").open("w") as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield

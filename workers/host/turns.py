"""One process at a time: a lock on a file, which the kernel releases when its holder dies."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POLL = 0.1  # seconds between two looks whether the lock is free


@contextmanager
def taken(path: Path, within: float = 0.0) -> Iterator[bool]:
    """Whether the lock is held here until the end of the context. False if another process or
    another thread has held it for all of the `within` seconds. Processes that share the file's
    folder exclude each other, in containers too. Raises OSError if the file can't be opened.
    """
    # Not inherited: a process that is started meanwhile must not keep the lock.
    number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _is_locked(number, time.monotonic() + within)
    finally:
        os.close(number)


def _is_locked(number: int, until: float) -> bool:
    while True:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(POLL)
        else:
            return True

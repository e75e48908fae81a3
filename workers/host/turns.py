"""One process at a time: a lock on a file, which the kernel releases when its holder dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def taken(path: Path) -> Iterator[bool]:
    """Whether the lock is held here until the end of the context. False, without waiting, while
    another process or another thread holds it. Processes that share the file's folder exclude each
    other, in containers too. Raises OSError if the file can't be opened.
    """
    # Not inherited: a process that is started meanwhile must not keep the lock.
    number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(number)

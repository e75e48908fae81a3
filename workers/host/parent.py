"""Ends a process when its parent ends, even if the parent is killed outright.

Run as a script, `parent.py SIGNAL PARENT COMMAND...`, it does so for any program. A process with
threads can't prepare its child between fork and exec instead: a lock that another thread holds at
the fork stays locked in the child.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable

PR_SET_PDEATHSIG = 1  # linux/prctl.h
LOOK = 0.2  # seconds between two looks whether the parent is there


def die_with_parent(parent: int, signum: int = signal.SIGTERM) -> None:
    """Let the kernel send us `signum` when `parent`, our parent's process id, ends. It holds across
    exec. Where there is no such call, on macOS, only a parent that has ended already is noticed.

    To the kernel our parent is the thread that started us. A program that should live longer than a
    thread has to be started by the main thread.

    Raises SystemExit if `parent` has ended already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signum)
    if os.getppid() != parent:
        raise SystemExit(128 + signum)


def dying_with_us(command: Iterable[str], signum: int = signal.SIGTERM) -> list[str]:
    """`command` as a command that ends by `signum` when this process does."""
    # -I -S: without site-packages this takes 15 ms.
    interpreter = [sys.executable, "-I", "-S", __file__]
    return [*interpreter, str(int(signum)), str(os.getpid()), *command]


def watch_parent(parent: int, then: Callable[[], object]) -> None:
    """Call `then`, in a thread of its own, as soon as `parent` isn't our parent any more."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK)
        then()

    threading.Thread(target=watch, name="parent", daemon=True).start()


if __name__ == "__main__":
    die_with_parent(int(sys.argv[2]), int(sys.argv[1]))
    try:
        os.execvp(sys.argv[3], sys.argv[3:])
    except OSError as failed:
        raise SystemExit(f"{sys.argv[3]} can't be started: {failed.strerror}") from failed

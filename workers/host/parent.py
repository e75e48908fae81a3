"""A process that ends together with the one that started it."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent: int) -> None:
    """Called by a process at its start: when `parent`, the process id of the one that started it,
    ends in whatever way, the kernel sends SIGTERM here. Ends this process now if that has happened
    already. It holds across `exec`. See prctl(2): the signal also comes when only the thread that
    started this process ends. On systems other than Linux only what has happened already is seen.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)

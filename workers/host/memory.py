"""Giving memory back to the machine."""

import ctypes
import gc
import os
import sys
from contextlib import suppress

# Of mallopt(3), for a process that loads one model after another. glibc gives threads heaps of
# their own and, once it has seen a large block freed, puts further large blocks among small blocks.
# Models leave holes there that can't be given back: see docs/versions.md for what is left of that.
ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(256 * 1024),  # bytes
    # Bytes that stay free at the end of the heap, so that it doesn't grow and shrink all the time.
    "MALLOC_TRIM_THRESHOLD_": str(64 * 1024**2),
}


def leave_no_holes() -> None:
    """Run this program again with ENVIRONMENT, if it isn't set: glibc reads it at the start of a
    process. What is set already stays as it is."""
    if sys.platform == "linux" and not ENVIRONMENT.keys() <= os.environ.keys():
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, {**ENVIRONMENT, **os.environ})


def give_back() -> None:
    """What nothing refers to any more: models hold themselves in cycles, and the C library keeps
    what is freed for itself."""
    gc.collect()
    with suppress(OSError, AttributeError):  # only the GNU library has it
        ctypes.CDLL(None).malloc_trim(0)

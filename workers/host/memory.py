"""Giving memory back to the machine."""

import ctypes
import gc
from contextlib import suppress

# Of mallopt(3).
TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
LARGE = 256 * 1024  # bytes
KEPT = 64 * 1024**2  # bytes that stay free at the end of the heap, so that it doesn't pump


def leave_no_holes() -> None:
    """For a process that loads one model after another; before it has threads.

    glibc gives threads heaps of their own and, once it has seen a large block freed, puts the next
    ones among the small ones. Models leave holes there that can't be given back: see
    docs/versions.md for what is left of that.
    """
    with suppress(OSError, AttributeError):  # only the GNU library has it
        libc = ctypes.CDLL(None)
        libc.mallopt(ARENA_MAX, 1)
        libc.mallopt(MMAP_THRESHOLD, LARGE)
        libc.mallopt(TRIM_THRESHOLD, KEPT)


def give_back() -> None:
    """What nothing refers to any more: models hold themselves in cycles, and the C library keeps
    what is freed for itself."""
    gc.collect()
    with suppress(OSError, AttributeError):  # only the GNU library has it
        ctypes.CDLL(None).malloc_trim(0)

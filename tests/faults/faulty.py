"""The stand-in model, which does to its process whatever its text says."""

import ctypes
import os
import resource
import signal
import time
from collections.abc import Callable, Sequence

from workers.predictors import Encoded, Spec, Vector
from workers.predictors.sleep import SleepPredictor


def _hang_in_python() -> None:
    while True:
        time.sleep(0.1)


def _deadlock(library: ctypes.CDLL) -> None:
    """Lock what is locked already; no signal gets one out of that."""
    mutex = ctypes.create_string_buffer(256)  # zeros make a new one
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)


def _hang_in_c() -> None:
    _deadlock(ctypes.CDLL(None))  # other threads may run


def _hang_in_c_for_all() -> None:
    _deadlock(ctypes.PyDLL(None))  # with the interpreter's lock held: no other thread runs


class _Time(ctypes.Structure):
    """`struct timespec` of time.h."""

    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def _take_time_in_c() -> None:
    """Four seconds in which no signal gets through."""
    library, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(256)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_timedlock(mutex, ctypes.byref(_Time(int(time.time()) + 4, 0)))


def _segfault() -> None:
    ctypes.string_at(0)


def _use_up_memory() -> None:
    """Meets a limit, as in a container that has one, only that malloc is told so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**31 + 2**30, hard))
    try:
        bytearray(2**34)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _raise() -> None:
    raise ValueError("this text can't be read")


DOES: dict[str, Callable[[], None]] = {
    "hang in Python": _hang_in_python,
    "hang in C": _hang_in_c,
    "hang in C, with the lock": _hang_in_c_for_all,
    "take time in C": _take_time_in_c,
    "segfault": _segfault,
    "use up memory": _use_up_memory,
    "kill": _kill,
    "raise": _raise,
}


class FaultyPredictor(SleepPredictor):
    """A text "hang in C" or "hang in C: another word" does that; any other is answered."""

    def predict(self, batch: Sequence[Encoded]) -> list[Vector]:
        for encoded in batch:
            if fault := DOES.get(encoded.ids.partition(":")[0]):
                fault()
        return super().predict(batch)


def load(spec: Spec, threads: int) -> FaultyPredictor:
    return FaultyPredictor(spec)

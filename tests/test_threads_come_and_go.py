"""The threads that answer requests: no more than allowed, and none for long without work."""

import threading

import pytest

from inference import threads
from inference.threads import Threads
from tests.waiting import eventually


def alive(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())


def test_tasks_beyond_the_threads_wait_in_line() -> None:
    room = Threads("in line", 2)
    go_on, done = threading.Semaphore(0), []

    def task(number: int) -> None:
        assert go_on.acquire(timeout=30)
        done.append(number)

    for number in range(5):
        room.run(lambda number=number: task(number))  # type: ignore[misc]
    assert alive("in line") == 2
    go_on.release(5)
    eventually(lambda: sorted(done) == [0, 1, 2, 3, 4])


def test_an_idle_thread_gets_the_next_task() -> None:
    room = Threads("again", 10)
    ran: list[str] = []
    for number in range(20):
        room.run(lambda: ran.append(threading.current_thread().name))
        eventually(lambda number=number: len(ran) > number and room._idle)  # type: ignore[misc]
    assert alive("again") == 1


def test_an_idle_thread_ends_and_a_new_one_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "IDLE", 0.05)
    room = Threads("ending", 10)
    together = threading.Barrier(3)
    for _ in range(2):
        room.run(lambda: together.wait(30) and None)
    together.wait(30)
    eventually(lambda: not alive("ending"))
    done = threading.Event()
    room.run(done.set)
    assert done.wait(30)

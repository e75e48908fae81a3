"""The threads that answer requests: no more than allowed, and none for long without work."""

import threading
import weakref
from functools import partial

import pytest

from inference import threads
from inference.threads import Threads
from tests.waiting import eventually


class Task:
    """It runs until it may end, and knows in which thread."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self.may_end = threading.Event()

    def __call__(self) -> None:
        self.thread = threading.current_thread()
        assert self.may_end.wait(30)


def idle(room: Threads, count: int) -> None:
    eventually(lambda: len(room._idle) == count)


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


def test_tasks_in_line_are_done_in_their_order() -> None:
    room = Threads("order", 1)
    first = Task()
    room.run(first)
    done: list[int] = []
    for number in range(5):
        room.run(partial(done.append, number))
    first.may_end.set()
    idle(room, 1)
    assert done == [0, 1, 2, 3, 4]


def test_the_thread_that_became_idle_last_gets_the_next_task() -> None:
    """So that the others can end."""
    room = Threads("last", 2)
    first, last = Task(), Task()
    room.run(first)
    room.run(last)
    for count, task in enumerate((first, last), 1):
        task.may_end.set()
        idle(room, count)
    for _ in range(3):
        task = Task()
        task.may_end.set()
        room.run(task)
        idle(room, 2)
        assert task.thread is last.thread


def test_a_thread_that_has_ended_counts_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "IDLE", 0.05)
    room = Threads("one at a time", 1)
    for _ in range(3):
        done = threading.Event()
        room.run(done.set)
        assert done.wait(30)
        eventually(lambda: not alive("one at a time"))


def test_a_task_that_comes_when_its_thread_is_about_to_end_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The thread has waited long enough, but hasn't said so yet."""
    room = Threads("about to end", 1)
    late, next_ = threading.Event(), threading.Event()

    class Waited(threads._Idle):
        def wait(self, seconds: float) -> threads.Task | None:
            if late.is_set() or not room._idle:
                return super().wait(seconds)
            room.run(late.set)
            return None

    monkeypatch.setattr(threads, "_Idle", Waited)
    room.run(lambda: None)
    assert late.wait(30)
    room.run(next_.set)
    assert next_.wait(30)
    assert alive("about to end") == 1


def test_an_idle_thread_keeps_nothing_of_its_task() -> None:
    """A task holds a request, with its body."""
    room = Threads("keeping", 1)
    for _ in range(2):  # a thread is started for the first and gets the second
        task = Task()
        task.may_end.set()
        kept = weakref.ref(task)
        room.run(task)
        idle(room, 1)
        del task
        assert kept() is None

"""Threads that answer requests: started when needed, ended when idle."""

import threading
from collections import deque
from collections.abc import Callable

IDLE = 30.0  # seconds without a task, after which a thread ends

Task = Callable[[], None]


class Threads:
    """At most `most` threads; further tasks wait in line.

    The thread that became idle last gets the next task, so that the others can end.
    """

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._count = 0
        self._lock = threading.Lock()
        self._idle: list[_Idle] = []
        self._waiting: deque[Task] = deque()

    def run(self, task: Task) -> None:
        """In one of the threads, soon. The task handles its own errors."""
        with self._lock:
            if self._idle:
                self._idle.pop().give(task)
            elif self._count < self._most:
                self._count += 1
                first = _Idle()
                first.give(task)
                threading.Thread(
                    target=self._work, args=(first,), name=self._name, daemon=True
                ).start()
            else:
                self._waiting.append(task)

    def _work(self, idle: "_Idle") -> None:
        task = idle.wait(IDLE)
        while task:
            task()
            del task  # it holds a request
            with self._lock:
                if self._waiting:
                    task = self._waiting.popleft()
                    continue
                idle = _Idle()
                self._idle.append(idle)
            task = idle.wait(IDLE) or self._leave(idle)

    def _leave(self, idle: "_Idle") -> Task | None:
        with self._lock:
            if idle in self._idle:
                self._idle.remove(idle)
                self._count -= 1
                return None
        return idle.wait(IDLE)  # a task was given at the last moment


class _Idle:
    """One thread's wait for a task."""

    def __init__(self) -> None:
        self._task: Task | None = None
        self._given = threading.Lock()
        self._given.acquire()

    def give(self, task: Task) -> None:
        self._task = task
        self._given.release()

    def wait(self, seconds: float) -> Task | None:
        if not self._given.acquire(timeout=seconds):
            return None
        task, self._task = self._task, None  # a thread keeps its first _Idle for good
        return task

"""Where the threads of a web process leave their texts and wait for what becomes of them.

One thread enqueues whatever they have left since it last did, in one round trip; another waits for
the results of all of them at once. A connection for every thread would cost each request two round
trips of its own, and the process several times the system calls and thread switches.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

from redis.exceptions import RedisError
from rq.results import Result

from workers import queue
from workers.queue import Load, NewJob

log = logging.getLogger(__name__)

WATCH = 1000  # milliseconds that one look at the results lasts at most
RETRIED = str(Result.Type.RETRIED.value).encode()


@dataclass(frozen=True)
class Refused:
    """There was no room, or nobody to do it."""

    load: Load


@dataclass(frozen=True)
class Ended:
    """A worker has had the job: the last entry of its result stream."""

    fields: dict[bytes, bytes]


class Call:
    """One caller's job, and what became of it."""

    def __init__(self, job: NewJob) -> None:
        self.job = job
        self.seen: Any = "0-0"  # the last entry of its result stream
        self._outcome: Refused | Ended | Exception | None = None
        # A bare lock, since every request needs one: an Event is built of three.
        self._over = threading.Lock()
        self._over.acquire()

    def end(self, outcome: Refused | Ended | Exception) -> None:
        """Once."""
        self._outcome = outcome
        self._over.release()

    def wait(self, seconds: float) -> Refused | Ended | None:
        """None: not yet."""
        self._over.acquire(timeout=max(0.0, seconds))
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


class Exchange:
    """Starts its two threads; they end with the process."""

    def __init__(self) -> None:
        self._left: SimpleQueue[Call] = SimpleQueue()
        self._open: dict[str, Call] = {}  # by job id, as long as somebody waits
        self._lock = threading.Condition()
        self._watched: frozenset[str] | None = None  # those whose results are waited for in Redis
        # A stream. An entry in it brings the collector back, who reads on from the last one he has
        # seen, so that none can be missed.
        self._bell = f"velo:bell:{uuid4().hex}"
        for name, work in (("enqueue", self._enqueue), ("collect", self._collect)):
            threading.Thread(target=work, name=name, daemon=True).start()

    def ask(self, job: NewJob, seconds: float) -> Refused | Ended | None:
        """What became of the job; None if that isn't known after so many seconds.

        Raises RedisError.
        """
        call = Call(job)
        self._open[job.id] = call
        self._left.put(call)
        try:
            return call.wait(seconds)
        finally:
            self._open.pop(job.id, None)

    def _enqueue(self) -> None:
        while True:
            calls = [self._left.get()]
            try:
                while len(calls) < queue.ENQUEUE_AT_MOST:
                    calls.append(self._left.get_nowait())
            except Empty:
                pass
            with self._lock:
                unseen = self._watched is not None and not self._watched.issuperset(
                    call.job.id for call in calls
                )
            try:
                load = queue.enqueue([call.job for call in calls], self._bell if unseen else None)
            except Exception as error:  # noqa: BLE001 - the thread must live on
                self._fail(calls, error)
                continue
            self._end(calls[load.admitted :], Refused(load))
            with self._lock:
                self._lock.notify()

    def _collect(self) -> None:
        heard: Any = "0-0"
        while True:
            with self._lock:
                while not self._open:
                    self._lock.wait()
                calls = self._open.copy()
                self._watched = frozenset(calls)
            streams: dict[Any, Any] = {self._bell: heard}
            streams |= {Result.get_key(job_id): call.seen for job_id, call in calls.items()}
            try:
                found: Any = queue.connection().xread(streams, block=WATCH)
            except Exception as error:  # noqa: BLE001 - the thread must live on
                self._fail(list(calls.values()), error)
                continue
            finally:
                self._watched = None
            for key, entries in found or ():
                call = calls.get(key.decode().rpartition(":")[2])
                if call is None:
                    heard = entries[-1][0]
                    continue
                for entry, fields in entries:
                    call.seen = entry
                    # A job that is to be tried again writes RETRIED, and goes on.
                    if fields.get(b"type") != RETRIED:
                        self._end([call], Ended(fields))

    def _fail(self, calls: Sequence[Call], error: Exception) -> None:
        if not isinstance(error, RedisError):
            log.error("the exchange with the queue failed", exc_info=error)
        self._end(calls, error)

    def _end(self, calls: Sequence[Call], outcome: Refused | Ended | Exception) -> None:
        for call in calls:
            if self._open.pop(call.job.id, None):
                call.end(outcome)


@cache
def exchange() -> Exchange:
    """This process's."""
    return Exchange()

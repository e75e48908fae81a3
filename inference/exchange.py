"""Where the threads of a web process leave their texts and wait for what becomes of them.

One thread enqueues whatever they have left since it last did, in one round trip; another waits for
the results of all of them at once. A connection for every thread would cost each request two round
trips of its own, and the process several times the system calls and thread switches.

A Redis that goes away and comes back is waited for: whoever comes meanwhile is refused at once; who
waits goes on waiting, and his job is enqueued again, once, if Redis has lost it.
"""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

from redis.exceptions import RedisError
from rq.job import Job
from rq.results import Result

from workers import queue
from workers.queue import Load, NewJob

log = logging.getLogger(__name__)

WATCH = 1000  # milliseconds that one look at the results lasts at most
MISS = 1.0  # seconds between two looks whether Redis still has the jobs
RETRY = 0.2  # seconds between two tries to reach a Redis that is away
RETRIED = str(Result.Type.RETRIED.value).encode()


@dataclass(frozen=True)
class Refused:
    """There was no room, or nobody to do it."""

    load: Load


@dataclass(frozen=True)
class Ended:
    """A worker has had the job: the last entry of its result stream."""

    fields: dict[bytes, bytes]


@dataclass(frozen=True)
class Lost:
    """Redis has lost the job, twice."""


Outcome = Refused | Ended | Lost


class Call:
    """One caller's job, and what became of it."""

    def __init__(self, job: NewJob) -> None:
        self.job = job
        self.until = time.monotonic() + job.seconds
        self.enqueued = False  # Redis has said so
        self.again = False  # it has been lost once
        self.seen: Any = "0-0"  # the last entry of its result stream
        self._outcome: Outcome | Exception | None = None
        # A bare lock, since every request needs one: an Event is built of three.
        self._over = threading.Lock()
        self._over.acquire()

    def end(self, outcome: Outcome | Exception) -> None:
        """Once."""
        self._outcome = outcome
        self._over.release()

    def wait(self) -> Outcome | None:
        """None: there is no time left."""
        self._over.acquire(timeout=max(0.0, self.until - time.monotonic()))
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
        self._away: RedisError | None = None  # why Redis can't be used at the moment
        self._missed = time.monotonic()  # when we last looked whether jobs are missing
        # A stream. An entry in it brings the collector back, who reads on from the last one he has
        # seen, so that none can be missed.
        self._bell = f"velo:bell:{uuid4().hex}"
        for name, work in (("enqueue", self._enqueue), ("collect", self._collect)):
            threading.Thread(target=work, name=name, daemon=True).start()

    def ask(self, job: NewJob) -> Outcome | None:
        """What became of the job; None if that isn't known after `job.seconds`.

        Raises RedisError, at once while Redis is away.
        """
        if self._away:
            raise self._away
        call = Call(job)
        self._open[job.id] = call
        self._left.put(call)
        try:
            return call.wait()
        finally:
            self._open.pop(job.id, None)

    # --- in -----------------------------------------------------------------------------------

    def _enqueue(self) -> None:
        while True:
            calls = [self._left.get(), *self._all_left(queue.ENQUEUE_AT_MOST - 1)]
            with self._lock:
                unseen = self._watched is not None and not self._watched.issuperset(
                    call.job.id for call in calls
                )
            try:
                load = queue.enqueue([call.job for call in calls], self._bell if unseen else None)
            except Exception as error:  # noqa: BLE001 - the thread must live on
                self._fail(calls, error)
                if isinstance(error, RedisError):
                    self._refuse_until_it_is_back(error)
                continue
            for call in calls[: load.admitted]:
                call.enqueued = True
            self._end(calls[load.admitted :], Refused(load))
            with self._lock:
                self._lock.notify()

    def _all_left(self, most: int) -> list[Call]:
        calls: list[Call] = []
        try:
            while len(calls) < most:
                calls.append(self._left.get_nowait())
        except Empty:
            pass
        return calls

    def _refuse_until_it_is_back(self, error: RedisError) -> None:
        self._away = error
        while self._away:
            self._end(self._all_left(queue.ENQUEUE_AT_MOST), self._away)
            try:
                queue.connection().ping()
                self._away = None
            except RedisError as again:
                self._away = again
                time.sleep(RETRY)

    # --- out ----------------------------------------------------------------------------------

    def _collect(self) -> None:
        heard: Any = "0-0"
        failing = False
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
                self._watched = None
                for key, entries in found or ():
                    if call := calls.get(key.decode().rpartition(":")[2]):
                        self._read(call, entries)
                    else:
                        heard = entries[-1][0]
                self._look_for_missing(calls)
                failing = False
            except RedisError as error:
                if not failing:
                    log.warning("results can't be collected: %s; trying again", error)
                failing = True
                time.sleep(RETRY)
            except Exception as error:  # noqa: BLE001 - the thread must live on
                self._fail(list(calls.values()), error)
            finally:
                self._watched = None

    def _read(self, call: Call, entries: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> None:
        for entry, fields in entries:
            call.seen = entry
            # A job that is to be tried again writes RETRIED, and goes on.
            if fields.get(b"type") != RETRIED:
                self._end([call], Ended(fields))

    def _look_for_missing(self, calls: dict[str, Call]) -> None:
        """Enqueue again what Redis has lost: it came back empty, or from before we enqueued."""
        if time.monotonic() - self._missed < MISS:
            return
        self._missed = time.monotonic()
        there = [call for call in calls.values() if call.enqueued]
        with queue.connection().pipeline(transaction=False) as pipeline:
            for call in there:
                pipeline.exists(Job.key_for(call.job.id))
            exist = pipeline.execute()
        for call, exists in zip(there, exist, strict=True):
            remaining = call.until - time.monotonic()
            if exists or remaining <= 0 or call.job.id not in self._open:
                continue
            if call.again:
                self._end([call], Lost())
                continue
            log.warning("job %s is lost; enqueueing it again", call.job.id)
            call.enqueued, call.again, call.seen = False, True, "0-0"
            call.job = replace(call.job, seconds=remaining)
            self._left.put(call)

    def _fail(self, calls: Sequence[Call], error: Exception) -> None:
        if not isinstance(error, RedisError):
            log.error("the exchange with the queue failed", exc_info=error)
        self._end(calls, error)

    def _end(self, calls: Sequence[Call], outcome: Outcome | Exception) -> None:
        for call in calls:
            if self._open.pop(call.job.id, None):
                call.end(outcome)


@cache
def exchange() -> Exchange:
    """This process's."""
    return Exchange()

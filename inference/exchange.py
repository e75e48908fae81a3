"""Where the threads of a web process leave their inputs and wait for what becomes of them.

One thread enqueues whatever they have left since it last did, in one round trip for each version
that is asked, which is mostly one; another waits for the results of all of them at once. A
connection for every thread would cost each request two round trips of its own, and the process
several times the system calls and thread switches.

While Redis is unavailable, new requests are refused immediately and waiting requests keep waiting.
If Redis has lost their jobs when it returns, each job is enqueued again, once. If no worker serves
a job's version any more, the job goes back to its caller, provided that another version may answer.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from enum import IntEnum
from functools import cache, partial
from itertools import chain
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

from redis.exceptions import RedisError
from rq.job import Job
from rq.results import Result

from inference import callers
from inference.presence import ClientGone, client
from inference.waiting import Call, Ended, Lost, Outcome, Refused, Request, Stranded
from workers.broker.clock import clock
from workers.broker.collected import Collected
from workers.broker.connection import connection
from workers.broker.enqueue import (
    ENQUEUE_AT_MOST,
    READMIT,
    Admission,
    NewJob,
    enqueue,
    withdraw,
)
from workers.broker.names import Lane, leases_key
from workers.broker.wire import RETRIED

log = logging.getLogger(__name__)

WATCH = 1000  # milliseconds that one look at the results lasts at most
MISS = 1.0  # seconds between two looks whether Redis still has the jobs, and workers for them
COPIES = 64  # shadows' copies that may wait for one version; further copies are dropped
RETRY = 0.2  # seconds between two tries to reach a Redis that is away


class Turn(IntEnum):
    """Of jobs that are left at the same time."""

    READMITTED = 0
    WAITED_FOR = 1
    COPY = 2


ROOM = {Turn.READMITTED: READMIT, Turn.WAITED_FOR: None, Turn.COPY: COPIES}  # see `enqueue`


class Exchange:
    """Starts its threads; they end with the process, or when it is closed."""

    def __init__(self) -> None:
        # What is let in together or not at all. None: the exchange is closed.
        self._left: SimpleQueue[list[Call] | None] = SimpleQueue()
        self._open: dict[str, Call] = {}  # by job id, as long as somebody waits
        self._lock = threading.Condition()
        self._watched: frozenset[str] | None = None  # jobs whose results are waited for in Redis
        self._away: RedisError | None = None  # why Redis can't be used at the moment
        self._refusal: Exception | None = None  # why nothing is answered any more
        self._missed = time.monotonic()  # when we last looked whether jobs are missing
        # A stream. An entry in it wakes the collector, which reads on from the last entry that it
        # has seen, so that it can't miss an entry.
        self._bell = f"velo:bell:{uuid4().hex}"
        self._closed = False
        self._collected = Collected()
        self._threads = [
            threading.Thread(target=work, name=name, daemon=True)
            for name, work in (("enqueue", self._enqueue), ("collect", self._collect))
        ]
        for thread in self._threads:
            thread.start()

    def ask(
        self, jobs: Sequence[NewJob], elsewhere: Callable[[], bool] | None = None
    ) -> list[Outcome | None]:
        """What became of each job, in their order, as soon as all have succeeded or one hasn't.
        None where that isn't known then, or after the first one's `seconds`: such jobs may still be
        waiting.

        The jobs are of one queue, and are let in together or not at all: then all are Refused. They
        wait in the order in which they are given; jobs with inputs that were let in before are let
        in at the front whatever waits, also while nobody is alive.
        `elsewhere`, if the answers may come from another version: whether there is one to ask, when
        nobody serves this one any more.

        Raises RedisError, at once while Redis is away, what `refuse` was told, and ClientGone when
        the client leaves; the jobs are withdrawn then.
        """
        if away := self._away:  # read once: another thread finds out when Redis is back
            raise away
        request = Request(jobs, elsewhere)
        for call in request.calls:
            self._open[call.job.id] = call
        if self._refusal:  # looked at now, since `refuse` ends the calls that it finds open
            self._end(request.calls, self._refusal)
        try:
            with client().telling(partial(self._end, request.calls, ClientGone())):
                self._left.put(request.calls)
                return request.wait()
        except ClientGone:
            withdraw(jobs)
            raise
        finally:
            for call in request.calls:
                self._open.pop(call.job.id, None)
            callers.current().note(request.verdict)

    def send(self, copy: NewJob) -> None:
        """Enqueue a shadow's copy if there is room. Returns at once, and nobody waits for it."""
        if not self._away:
            self._left.put(Request([copy]).calls)

    def close(self) -> None:
        """End the threads. Nobody may ask from now on, or wait for an answer."""
        self._closed = True
        self._left.put(None)
        with self._lock:
            self._lock.notify()
        for thread in self._threads:
            thread.join()
        self._collected.close()

    def refuse(self, reason: Exception) -> None:
        """Raise `reason` in all who wait, and in all who ask from now on: this process ends."""
        self._refusal = reason
        self._end(list(self._open.values()), reason)

    # --- in -----------------------------------------------------------------------------------

    def _enqueue(self) -> None:
        while not self._closed and (first := self._left.get()):
            left = [first, *self._all_left(ENQUEUE_AT_MOST - len(first))]
            left = [calls for calls in left if self._is_wanted(calls)]
            by_queue: dict[tuple[Turn, str, Lane], list[list[Call]]] = {}
            for calls in left:
                job = calls[0].job
                by_queue.setdefault((_turn(calls[0]), job.queue, job.lane), []).append(calls)
            for key in sorted(by_queue):
                try:
                    self._enqueue_in(key[1], by_queue[key], ROOM[key[0]])
                except Exception as error:  # noqa: BLE001 - the thread must live on
                    if isinstance(error, RedisError):
                        self._fail(chain(*chain(*by_queue.values())), error)
                        self._refuse_until_it_is_back(error)
                        break
                    self._fail(chain(*by_queue[key]), error)
                by_queue[key] = []

    def _is_wanted(self, calls: Sequence[Call]) -> bool:
        """False if their caller has stopped waiting meanwhile."""
        return calls[0].is_copy or any(call.job.id in self._open for call in calls)

    def _enqueue_in(self, name: str, left: Sequence[list[Call]], most: int | None) -> None:
        # The smallest groups first: a group without room then keeps no other group out.
        groups = sorted(left, key=len)
        calls = list(chain(*groups))
        with self._lock:
            watched = self._watched  # read once: the collector may end its look at any moment
            unseen = watched is not None and any(
                call.job.id not in watched for call in calls if not call.is_copy
            )
        jobs = [call.job for call in calls]
        load = enqueue(name, jobs, self._bell if unseen else None, most, list(map(len, groups)))
        for group, verdict in zip(groups, load.verdicts, strict=True):
            group[0].request.verdict = verdict
            if verdict.admission is Admission.ADMITTED:
                for call in group:
                    call.enqueued = True
            else:
                self._end(group, Refused(load, verdict))
        with self._lock:
            self._lock.notify()

    def _all_left(self, most: int) -> list[list[Call]]:
        """Until they are `most` calls, or a few more: what was left together stays together."""
        left: list[list[Call]] = []
        try:
            while most > 0 and (calls := self._left.get_nowait()):
                left.append(calls)
                most -= len(calls)
        except Empty:
            pass
        return left

    def _refuse_until_it_is_back(self, error: RedisError) -> None:
        self._away = error
        while self._away and not self._closed:
            self._end(chain(*self._all_left(ENQUEUE_AT_MOST)), self._away)
            try:
                connection().ping()
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
                while not self._open and not self._closed:
                    self._lock.wait()
                if self._closed:
                    return
                calls = self._open.copy()
                self._watched = frozenset(calls)
            streams: dict[Any, Any] = {self._bell: heard}
            streams |= {Result.get_key(job_id): call.seen for job_id, call in calls.items()}
            try:
                found: Any = connection().xread(streams, block=WATCH)
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
                self._fail(calls.values(), error)
            finally:
                self._watched = None

    def _read(self, call: Call, entries: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> None:
        for entry, fields in entries:
            call.seen = entry
            # A job that is to be tried again writes RETRIED, and goes on.
            if fields.get(b"type") != RETRIED:
                ended = Ended(fields)
                if self._end([call], ended) and ended.succeeded:
                    self._collected.add(call.job)

    def _look_for_missing(self, calls: dict[str, Call]) -> None:
        """See what has become of jobs of which nothing is heard."""
        if time.monotonic() - self._missed < MISS:
            return
        self._missed = time.monotonic()
        there = [call for call in calls.values() if call.enqueued]
        names = list({call.job.queue for call in there})
        now = clock.now()
        with connection().pipeline(transaction=False) as pipeline:
            for call in there:
                pipeline.exists(Job.key_for(call.job.id))
            for name in names:
                pipeline.zcount(leases_key(name), now, "+inf")
            found = pipeline.execute()
        unserved = {
            name for name, workers in zip(names, found[len(there) :], strict=True) if not workers
        }
        unserved_calls: dict[Request, list[Call]] = {}
        for call, exists in zip(there, found, strict=False):
            if call.request.until <= time.monotonic() or call.job.id not in self._open:
                continue
            if not exists:
                self._enqueue_again(call)
            elif call.job.queue in unserved:
                unserved_calls.setdefault(call.request, []).append(call)
        for request, calls_of_it in unserved_calls.items():
            self._give_back(request, calls_of_it)

    def _enqueue_again(self, call: Call) -> None:
        """Redis has lost the job: it came back empty, or from before we enqueued."""
        if call.again:
            self._end([call], Lost())
            return
        what = "job %s is lost; enqueueing it again"
        log.warning(what, call.job.id, extra={"request": call.job.request})
        call.enqueued, call.again, call.seen = False, True, "0-0"
        left = max(0.0, call.request.until - time.monotonic())
        call.job = replace(call.job, seconds=left, readmitted=True)
        self._left.put([call])

    def _give_back(self, request: Request, calls: Sequence[Call]) -> None:
        """All but the jobs that a worker has: they wait until that worker has answered, or is known
        to be dead and the job is in its queue again."""
        if not request.elsewhere or not request.elsewhere():
            return
        withdrawn = withdraw([call.job for call in calls])
        stranded = [
            (call, Stranded(crashes))
            for call, crashes in zip(calls, withdrawn, strict=True)
            if crashes is not None
        ]
        for call, outcome in stranded:
            call.outcome = outcome  # the first end wakes the caller, who reads all
        for call, outcome in stranded:
            log.info("nobody serves %s any more; asking elsewhere", call.job.queue)
            self._end([call], outcome)

    def _fail(self, calls: Iterable[Call], error: Exception) -> None:
        if not isinstance(error, RedisError):
            log.error("the exchange with the queue failed", exc_info=error)
        self._end(calls, error)

    def _end(self, calls: Iterable[Call], outcome: Outcome | Exception) -> int:
        """For how many of them a caller still waited."""
        waited = 0
        for call in calls:
            if self._open.pop(call.job.id, None):
                call.request.end(call, outcome)
                waited += 1
        return waited


def _turn(call: Call) -> Turn:
    if call.is_copy:
        return Turn.COPY
    return Turn.READMITTED if call.job.readmitted else Turn.WAITED_FOR


@cache
def exchange() -> Exchange:
    """This process's."""
    return Exchange()

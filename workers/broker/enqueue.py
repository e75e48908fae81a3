"""Jobs on their way into a queue: admitted, withdrawn, promoted when their retry is due."""

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, cast
from uuid import uuid4

from django.conf import settings
from rq import Queue
from rq.defaults import RQ_KEY_PREFIX
from rq.job import Job, JobStatus
from rq.registry import ScheduledJobRegistry
from rq.utils import now as rq_now
from rq.utils import utcformat

from workers.broker.clock import clock
from workers.broker.connection import connection, queue, script
from workers.broker.grants import Grant
from workers.broker.names import EVERYBODY, Lane, lane_key, leases_key
from workers.broker.wire import JSONSerializer
from workers.jobs import INFER

PROMOTE_AT_MOST = 1000
ENQUEUE_AT_MOST = 256  # in one step, unless a single group has more
READMIT = -1
HEAVY = 20_000  # bytes of a job; claims.HEAVY_AT_MOST bounds how many a worker takes at a time


@dataclass(frozen=True)
class Load:
    """What arriving requests find."""

    waiting: int  # inputs in the queue
    workers: int  # alive, with the model loaded
    admitted: int = 0  # admitted jobs, of the jobs that arrived together
    # Of each group of jobs, in their order.
    verdicts: Sequence["Verdict"] = field(default=(), compare=False)


class Admission(IntEnum):
    """What became of a group of jobs at admission, as enqueue.lua says it."""

    NO_ROOM = 0
    ADMITTED = 1
    RATE = 2  # the client has had its inputs of this minute
    TOKENS = 3  # the client has had its tokens of this day
    AT_ONCE = 4  # too many inputs of the client wait or are computed


@dataclass(frozen=True)
class Verdict:
    """Of a group of jobs. What is left is None where the client has no such limit."""

    admission: Admission
    retry_after: int = 0  # seconds; 0: not known
    inputs_left: int | None = None  # that the client may send at once
    full_in: int = 0  # seconds until it may send as many as its limit allows in a minute
    tokens_left: int | None = None
    day_ends_in: int = 0  # seconds


def waiting(names: Sequence[str]) -> int:
    """Inputs that wait in these queues together. One round trip. Raises RedisError."""
    with connection().pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.llen(queue(name).key)
        return sum(pipeline.execute())


def live_workers(name: str = EVERYBODY) -> int:
    """How many serve this queue; without a name: how many there are. Raises RedisError."""
    return connection().zcount(leases_key(name), clock.now(), "+inf")


@dataclass(frozen=True)
class NewJob:
    """An input for a model, on its way into the queue of the version that must answer it."""

    queue: str  # "name@version"
    input: Any  # JSON; where the job has `several`, a list of inputs
    description: str  # in the admin's list of jobs
    seconds: float  # for which somebody waits
    # Of a shadow's copy: {"to": the version that answered, "output": what it answered}.
    compare: Mapping[str, Any] | None = None
    crashes: int = 0  # of workers that had it, in the queue of another version
    # Seconds after which Redis forgets it if it still waits; None: VELO_REQUEST_TIMEOUT, so that it
    # is forgotten when its caller is gone, even if the web process is gone too.
    lifetime: float | None = None
    lane: Lane = Lane.INTERACTIVE
    parameters: Mapping[str, Any] = field(default_factory=dict)  # of the request; see predictors
    # It has several inputs, whose answers come together; see wire.py for how, and for the answer
    # that says that each must be asked in a job of its own.
    several: bool = False
    readmitted: bool = False  # its input was let in before, in another job
    request: str = ""  # the id of the request that it belongs to
    grant: Grant | None = None  # of the client that asks; None: the API is open
    id: str = field(default_factory=lambda: str(uuid4()))

    @property
    def inputs(self) -> int:
        """How many it has."""
        return len(self.input) if self.several else 1


def enqueue(
    name: str,
    jobs: Sequence[NewJob],
    bell: str | None = None,
    most: int | None = None,
    groups: Sequence[int] | None = None,
) -> Load:
    """Enqueue jobs of one lane of the queue `name`, as many of them as there is room for below
    `most` inputs or else VELO_MAX_QUEUE, in order; no job if no live worker serves the queue.
    Where `most` is READMIT, they were let in before: all are let in, at the front of the queue,
    also while no worker is alive.

    `groups`: sizes of groups of jobs, in the order of `jobs`; without it each job is a group. A
    group is of one request. It is let in whole or not at all. A group with more inputs than the
    limit is let in if nothing waits, so that each request can be answered by an idle server.
    While there is no room, a client with a grant is let in as long as it has less than its share:
    VELO_MAX_QUEUE divided by the clients that have inputs here. The limits of its grant hold in any
    case; see `Grant`.

    One round trip and one step in Redis, whatever their number. `bell`: a stream that gets an
    entry and so wakes its readers. The fields are the fields that RQ's `enqueue_call` writes,
    but for the empty fields, which RQ doesn't miss.
    """
    [lane] = {job.lane for job in jobs}
    now = utcformat(rq_now())
    fields: dict[str, Any] = {
        "created_at": now,
        "enqueued_at": now,
        "origin": name,
        "status": "queued",
        "timeout": settings.VELO_JOB_TIMEOUT,
        "result_ttl": settings.VELO_RESULT_TTL,
        "failure_ttl": settings.VELO_FAILURE_TTL,
    }
    if settings.VELO_RETRY_MAX:
        fields["retries_left"] = settings.VELO_RETRY_MAX
        fields["retry_intervals"] = json.dumps(settings.VELO_RETRY_INTERVALS)
    if lane is not Lane.INTERACTIVE:
        fields["lane"] = lane.value
    most = settings.VELO_MAX_QUEUE if most is None else most
    args: list[Any] = [RQ_KEY_PREFIX, most, 2 * len(fields)]
    args += (word for item in fields.items() for word in item)
    sizes = list(groups) if groups is not None else [1] * len(jobs)
    args.append(len(sizes))
    first = 0
    for size in sizes:
        args += (size, *_of_request(jobs[first]))
        first += size
    for job in jobs:
        arguments = [job.input] if job.compare is None else [job.input, job.compare]
        named: dict[str, Any] = {"parameters": job.parameters} if job.parameters else {}
        if job.several:
            named["several"] = True
        data = JSONSerializer.dumps([INFER, None, arguments, named])
        lifetime = settings.VELO_REQUEST_TIMEOUT if job.lifetime is None else job.lifetime
        args += (job.id, zlib.compress(data), job.description, job.seconds, job.crashes)
        args += (math.ceil(lifetime), len(data) if len(data) > HEAVY else 0, job.inputs)
    waiting, workers, time_now, *said = script("enqueue")(
        keys=[lane_key(name, lane), leases_key(name), *([bell] if bell else [])],
        args=args,
        client=connection(),
    )
    verdicts = [_verdict(one) for one in said]
    admitted = sum(
        size
        for size, one in zip(sizes, verdicts, strict=True)
        if one.admission is Admission.ADMITTED
    )
    clock.learn(float(time_now))
    return Load(waiting, workers, admitted, verdicts)


def _of_request(job: NewJob) -> tuple[Any, ...]:
    """What enqueue.lua is told of the request that the job belongs to."""
    grant = job.grant
    if grant is None:
        return job.request, "", 0, 0, 0
    limits = (grant.inputs_per_minute, grant.tokens_per_day, grant.inputs_at_once)
    return job.request, grant.client, *(limit or 0 for limit in limits)


def _verdict(said: Sequence[int]) -> Verdict:
    admission, retry_after, inputs_left, full_in, tokens_left, day_ends_in = said
    return Verdict(
        Admission(admission),
        retry_after,
        None if inputs_left < 0 else inputs_left,
        full_in,
        None if tokens_left < 0 else tokens_left,
        day_ends_in,
    )


def withdraw(jobs: Sequence[NewJob]) -> list[int | None]:
    """Drop the jobs that no worker has started and that haven't ended. One round trip, or two.

    Returns for each in how many crashes it was; None if it wasn't dropped.
    """
    with connection().pipeline(transaction=False) as pipeline:
        for job in jobs:
            origin = queue(job.queue)
            script("withdraw")(
                keys=[
                    Job.key_for(job.id),
                    lane_key(job.queue, job.lane),
                    ScheduledJobRegistry(queue=origin).key,
                ],
                args=[job.id, JobStatus.QUEUED.value, JobStatus.SCHEDULED.value],
                client=pipeline,
            )
        return cast(list[int | None], pipeline.execute())


def promote_due(origin: Queue) -> int:
    """Put the jobs whose retry interval is over back into their queue; returns how many."""
    put = script("promote")(
        keys=[ScheduledJobRegistry(queue=origin).key, origin.key],
        args=[clock.now(), Job.key_for(""), PROMOTE_AT_MOST, JobStatus.QUEUED.value],
        client=connection(),
    )
    return cast(int, put)

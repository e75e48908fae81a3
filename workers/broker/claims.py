"""Claim, finish, put back: a worker takes many jobs in one step and answers them in another."""

import zlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast
from uuid import uuid4

import orjson
from redis import Redis
from rq import Queue
from rq.defaults import RQ_KEY_PREFIX
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.utils import now, str_to_date, utcformat

from workers.broker import ledger
from workers.broker.clock import clock
from workers.broker.connection import script
from workers.broker.names import EVERYBODY, leases_key
from workers.broker.wire import JSONSerializer, pack
from workers.jobs import INFER

HEAVY_AT_MOST = 256_000  # bytes of heavy jobs (see enqueue.HEAVY) that are claimed at a time

# What `finish` says of a job.
FENCED, WRITTEN, HAS_DEPENDENTS = 0, 1, 2


class LeaseOver(Exception):
    """This worker's lease is over, so its jobs may be given to others: it can't take more."""


@dataclass(frozen=True)
class Claim:
    """A job that this worker has taken and marked as started."""

    job_id: str
    execution_id: str
    queue: str
    data: bytes  # as RQ keeps it: the call, serialized and compressed
    meta: dict[str, Any]
    timeout: int  # seconds; 0 or less: none
    result_ttl: int | None  # seconds; None: the worker's default
    enqueued: bytes  # when, as RQ writes it
    plain: bool  # nothing in it needs more than claim and finish do
    suspect: bool  # it was in flight when a worker died, and runs alone
    inputs: int  # that it has
    request: str  # the id of the request that it belongs to; empty for RQ's own jobs
    client: str  # the client that asked; empty if the API is open
    started_at: datetime

    @property
    def named(self) -> str:
        """In log lines: its id, and that of its request."""
        return f"{self.job_id} (request {self.request})" if self.request else self.job_id

    @property
    def for_log(self) -> dict[str, str]:
        """Fields of log lines about it, with VELO_LOG=json."""
        return {"request": self.request}

    @property
    def execution_key(self) -> str:
        """ "job id:execution id", as RQ's registries have it."""
        return f"{self.job_id}:{self.execution_id}"

    @property
    def enqueued_at(self) -> datetime | None:
        """UTC; None if the job says nothing of it."""
        return str_to_date(self.enqueued) if self.enqueued else None

    @property
    def takes_floats(self) -> bool:
        """Whether the job says that its reader knows packed answers; see `wire.pack`. A web process
        of an older version, and a job that RQ's own tools have made, don't."""
        return bool(self.meta.get("f4"))

    def questions(self) -> "list[Question]":
        """What a model is asked, input by input; empty for any other job, which is RQ's to run."""
        if not self.plain:
            return []
        try:
            function, _, args, kwargs = orjson.loads(zlib.decompress(self.data))
        except (ValueError, TypeError, zlib.error):
            return []
        if function != INFER or not isinstance(args, list) or len(args) not in (1, 2):
            return []
        if not isinstance(kwargs, dict) or kwargs.keys() - {"parameters", "several"}:
            return []
        if not kwargs.pop("several", False):
            return [Question(self, *args, **kwargs)]
        if len(args) != 1 or not isinstance(args[0], list):
            return []
        return [Question(self, given, place=place, **kwargs) for place, given in enumerate(args[0])]

    def execution(self, connection: Redis, worker: str) -> Execution:
        """The same, as RQ's own methods take it."""
        execution = Execution(self.execution_id, self.job_id, connection, worker)
        execution.created_at = execution.last_heartbeat = self.started_at
        return execution


@dataclass(frozen=True)
class Question:
    """A claimed job for a model, with the arguments of its call."""

    claim: Claim
    input: Any  # JSON
    compare: Any = None  # of a shadow's copy; see NewJob
    parameters: Mapping[str, Any] = field(default_factory=dict)  # see NewJob
    place: int = 0  # among the inputs of its job


@dataclass(frozen=True)
class Answer:
    """What a job returns."""

    claim: Claim
    value: Any
    ttl: int  # seconds it is kept; negative: for ever
    inputs: int = 1  # that it answers
    # Tokens of them that the model read; None where nothing is counted as used: a shadow's copy, or
    # an input that was refused.
    tokens: int | None = None
    version: str = ""  # the label of the version that answers


def claim(
    connection: Redis,
    worker: str,
    queues: Sequence[Queue],
    limit: int,
    suspects: bool = True,
    *,
    extra: int = 0,
) -> list[Claim]:
    """Jobs that wait in `queues`, the first queue first, until they have `limit` inputs; the last
    job may have more. One round trip. `extra`: inputs in hand beyond one for each job in hand.

    Interactive jobs first; background jobs only if no interactive job waits. Heavy jobs wait
    behind each other: see HEAVY_AT_MOST. A suspect is claimed alone; without `suspects` it stays
    where it is, first in its queue. Raises LeaseOver.
    """
    started = now()
    unique = uuid4().hex[:-4]
    claimed = script("claim")(
        keys=[leases_key(EVERYBODY), *(queue.key for queue in queues)],
        args=[
            *(RQ_KEY_PREFIX, worker, utcformat(started), started.timestamp(), limit, int(suspects)),
            *(HEAVY_AT_MOST, extra),
            # One random number for all: it is the call to the system that takes time.
            *(f"{unique}{number:04x}" for number in range(limit)),
        ],
        client=connection,
    )
    if not claimed:
        raise LeaseOver
    time, *jobs = cast(list[Any], claimed)
    clock.learn(float(time))
    return [_claimed(job, started) for job in jobs]


def _claimed(job: Sequence[Any], started: datetime) -> Claim:
    """As claim.lua returns it."""
    job_id, execution_id, queue, data, meta, timeout, result_ttl, enqueued, *more = job
    plain, suspect, inputs, request, client = more
    return Claim(
        job_id=job_id.decode(),
        execution_id=execution_id.decode(),
        queue=queue.decode(),
        data=data,
        meta=_meta(meta),
        timeout=timeout,
        result_ttl=result_ttl,
        enqueued=enqueued,
        plain=bool(plain),
        suspect=bool(suspect),
        inputs=inputs,
        request=request.decode(errors="replace"),
        client=client.decode(errors="replace"),
        started_at=started,
    )


def finish(connection: Redis, worker: str, answers: Sequence[Answer], seconds: float) -> list[int]:
    """Write the answers: WRITTEN, FENCED or HAS_DEPENDENTS for each. One round trip.

    A FENCED job belongs to another worker; RQ must write a job that HAS_DEPENDENTS. `seconds` is
    how long the worker has worked on all of them. What they used is counted in the same step, in
    the ledger, by client, version and day: inputs and tokens.
    """
    ended = now()
    args: list[Any] = [RQ_KEY_PREFIX, worker, utcformat(ended), ended.timestamp(), seconds]
    for answer in answers:
        claimed = answer.claim
        args += (claimed.job_id, claimed.execution_id, claimed.queue, answer.ttl)
        write = pack if claimed.takes_floats else JSONSerializer.dumps
        args += (claimed.started_at.timestamp(), b64encode(write(answer.value)))
        used = (0, 0) if answer.tokens is None else (answer.inputs, answer.tokens)
        args += (claimed.client, claimed.inputs, *used, answer.version)
    outcomes = script("finish")(keys=[ledger.FIGURES, ledger.TOTALS], args=args, client=connection)
    return cast(list[int], outcomes)


def put_back(connection: Redis, worker: str, executions: Sequence[str]) -> int:
    """Put jobs that weren't begun back at the front of their queues, as they were; returns how many
    were. `executions`: "job id:execution id"."""
    args: list[Any] = [RQ_KEY_PREFIX, worker, 0, utcformat(now()), "", "", "", "", ""]
    for execution in executions:
        args += (execution, "", "")
    outcome = script("put_back")(args=args, client=connection)
    return cast(list[int], outcome)[0]


def is_current(connection: Redis, worker: str, job_id: str) -> bool:
    """Whether the job is still this worker's: not if it was given to another, or deleted."""
    found = connection.hmget(Job.key_for(job_id), "status", "worker_name")
    return cast(list[bytes | None], found) == [JobStatus.STARTED.value.encode(), worker.encode()]


def _meta(raw: bytes) -> dict[str, Any]:
    """A job of somebody else's may hold anything there."""
    try:
        meta = orjson.loads(raw) if raw else {}
    except ValueError:
        return {}
    return meta if isinstance(meta, dict) else {}

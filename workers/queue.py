"""The queue in Redis: one connection pool, one clock, and what must happen there in one step.

The keys and fields are RQ's own, so that `rq info`, django-rq's pages and `Job.fetch` read them.
"""

import json
import math
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from django.conf import settings
from redis import Redis
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry
from rq import Queue
from rq.defaults import RQ_KEY_PREFIX
from rq.job import Job, JobStatus
from rq.registry import ScheduledJobRegistry
from rq.utils import now as rq_now
from rq.utils import utcformat

from workers.jobs import INFER
from workers.wire import JSONSerializer

QUEUE = "default"  # RQ's own jobs; what a model shall answer waits in its version's queue
EVERYBODY = "*"  # among the leases: of each worker that is alive, whatever it serves

PATIENCE = 3.0  # seconds for an answer of Redis; no command here blocks for more than one
PROMOTE_AT_MOST = 1000
ENQUEUE_AT_MOST = 256  # in one step
UNSET = dict.fromkeys(
    (
        "started_at",
        "ended_at",
        "last_heartbeat",
        "worker_name",
        "group_id",
        "success_callback_name",
        "failure_callback_name",
        "stopped_callback_name",
    ),
    "",
)  # what RQ writes as empty into every new job


@cache
def connection() -> Redis:
    """This process's connections to Redis, shared by all its threads."""
    return Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=PATIENCE,
        socket_connect_timeout=2,
        health_check_interval=30,
        # A connection that the server has closed meanwhile is worth one more try, at once; whoever
        # waits for a Redis that is away wants to know.
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    )


@cache
def queue(name: str = QUEUE) -> Queue:
    return Queue(
        name,
        connection=connection(),
        default_timeout=settings.VELO_JOB_TIMEOUT,
        serializer=JSONSerializer,
    )


def names() -> list[str]:
    """Of all queues that ever had a job. Raises RedisError."""
    found = cast(set[bytes], connection().smembers(Queue.redis_queues_keys))
    return sorted(key.decode().removeprefix(Queue.redis_queue_namespace_prefix) for key in found)


@cache
def script(name: str) -> Script:
    """The server-side script in lua/NAME.lua: it is sent once, afterwards its hash is."""
    source = (Path(__file__).parent / "lua" / f"{name}.lua").read_text()
    return connection().register_script(source)


class Clock:
    """The time of the Redis server, in Unix seconds, read without a round trip.

    All who share a queue share this clock: deadlines and waiting times stay right when a machine's
    own clock is wrong or jumps, since between two readings only the monotonic clock counts.
    """

    MAX_AGE = 60  # seconds until the server is asked again
    READINGS = 5  # the one with the shortest round trip counts, as in NTP (RFC 5905)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offset = 0.0
        self._read_at = -float("inf")

    def learn(self, time_now: float) -> None:
        """The server has just said what time it is."""
        self._offset = time_now - time.monotonic()
        self._read_at = time.monotonic()

    def now(self) -> float:
        """Raises RedisError only if the server has never said what time it is."""
        if time.monotonic() - self._read_at > self.MAX_AGE:
            self._read()
        return time.monotonic() + self._offset

    def _read(self) -> None:
        with self._lock:
            if time.monotonic() - self._read_at <= self.MAX_AGE:
                return  # another thread has just done it
            try:
                _, self._offset = min(self._reading() for _ in range(self.READINGS))
            except RedisError:
                if self._read_at == -float("inf"):
                    raise
            self._read_at = time.monotonic()

    @staticmethod
    def _reading() -> tuple[float, float]:
        """Round trip, and the server's time less our monotonic one, both in seconds."""
        asked = time.monotonic()
        seconds, microseconds = connection().time()
        answered = time.monotonic()
        return answered - asked, seconds + microseconds / 1e6 - (asked + answered) / 2


clock = Clock()


@dataclass(frozen=True)
class Load:
    """What arriving requests find."""

    waiting: int  # inputs in the queue
    workers: int  # alive, with the model loaded
    admitted: int = 0  # jobs that were let in, of those that arrived together


def load(names: Sequence[str]) -> Load:
    """Of these queues together, and how many workers are alive at all. One round trip."""
    with connection().pipeline(transaction=False) as pipeline:
        pipeline.zcount(leases_key(EVERYBODY), clock.now(), "+inf")
        for name in names:
            pipeline.llen(queue(name).key)
        alive, *waiting = pipeline.execute()
    return Load(sum(waiting), alive)


def is_version(name: str) -> bool:
    """Whether a queue is that of a model version, "name@version"; the others are RQ's own."""
    return "@" in name


def leases_key(name: str) -> str:
    """A sorted set: who serves this queue, by the time until which they are known to be alive."""
    return f"velo:leases:{name}"


@dataclass(frozen=True)
class NewJob:
    """An input for a model, on its way into the queue of the version that shall answer it."""

    queue: str  # "name@version"
    input: Any  # JSON
    description: str  # in the admin's list of jobs
    seconds: float  # for which somebody waits
    # Of a shadow's copy: {"to": the version that answered, "output": what it answered}.
    compare: Mapping[str, Any] | None = None
    crashes: int = 0  # of workers that had it, in the queue of another version
    id: str = field(default_factory=lambda: str(uuid4()))


def enqueue(
    name: str, jobs: Sequence[NewJob], bell: str | None = None, most: int | None = None
) -> Load:
    """Enqueue up to ENQUEUE_AT_MOST jobs of the queue `name`, as many of them as there is room for
    below `most` or else VELO_MAX_QUEUE, the first ones first; none if no live worker serves it.

    One round trip. `bell`: a stream that gets an entry, for whoever waits there. The fields are
    those that RQ's `enqueue_call` writes.
    """
    now = utcformat(rq_now())
    fields: dict[str, Any] = {
        "created_at": now,
        "enqueued_at": now,
        "origin": name,
        "status": "queued",
        "timeout": settings.VELO_JOB_TIMEOUT,
        # Redis forgets a job that still waits when its caller is gone, even if we are gone too.
        "ttl": (ttl := math.ceil(settings.VELO_REQUEST_TIMEOUT)),
        "result_ttl": settings.VELO_RESULT_TTL,
        "failure_ttl": settings.VELO_FAILURE_TTL,
        **UNSET,
    }
    if settings.VELO_RETRY_MAX:
        fields["retries_left"] = settings.VELO_RETRY_MAX
        fields["retry_intervals"] = json.dumps(settings.VELO_RETRY_INTERVALS)
    most = settings.VELO_MAX_QUEUE if most is None else most
    args: list[Any] = [RQ_KEY_PREFIX, ttl, most, 2 * len(fields)]
    args += (word for item in fields.items() for word in item)
    for job in jobs:
        arguments = [job.input] if job.compare is None else [job.input, job.compare]
        data = zlib.compress(JSONSerializer.dumps([INFER, None, arguments, {}]))
        args += (job.id, data, job.description, job.seconds, job.crashes)
    waiting, workers, admitted, time_now = script("enqueue")(
        keys=[queue(name).key, leases_key(name), *([bell] if bell else [])],
        args=args,
        client=connection(),
    )
    clock.learn(float(time_now))
    return Load(waiting, workers, admitted)


def withdraw(job: NewJob) -> int | None:
    """Drop a job, unless a worker has started it or it has ended: then None, else in how many
    crashes it was."""
    origin = queue(job.queue)
    crashes = script("withdraw")(
        keys=[Job.key_for(job.id), origin.key, ScheduledJobRegistry(queue=origin).key],
        args=[job.id, JobStatus.QUEUED.value, JobStatus.SCHEDULED.value],
        client=connection(),
    )
    return cast(int | None, crashes)


def promote_due(origin: Queue) -> int:
    """Put the jobs whose retry interval is over back into their queue; returns how many."""
    put = script("promote")(
        keys=[ScheduledJobRegistry(queue=origin).key, origin.key],
        args=[clock.now(), Job.key_for(""), PROMOTE_AT_MOST, JobStatus.QUEUED.value],
        client=connection(),
    )
    return cast(int, put)

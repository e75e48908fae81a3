"""The queue in Redis: one connection pool, one clock, and what must happen there in one step.

The keys and fields are RQ's own, so that `rq info`, django-rq's pages and `Job.fetch` read them.
"""

import threading
import time
from dataclasses import dataclass
from functools import cache
from typing import cast

from django.conf import settings
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq import Queue
from rq.job import Job, JobStatus
from rq.registry import ScheduledJobRegistry

from workers.wire import JSONSerializer

QUEUE = "default"

# Drops a job that no worker has started. KEYS: job hash, queue, scheduled registry. ARGV: job id,
# then the statuses that may be dropped. Returns 1 if it was dropped.
WITHDRAW = """
local status = redis.call('HGET', KEYS[1], 'status')
for i = 2, #ARGV do
  if status == ARGV[i] then
    redis.call('LREM', KEYS[2], 1, ARGV[1])
    redis.call('ZREM', KEYS[3], ARGV[1])
    redis.call('DEL', KEYS[1])
    return 1
  end
end
return 0
"""

# Puts the jobs whose retry is due at the end of the queue. KEYS: scheduled registry, queue.
# ARGV: the time in Unix seconds, prefix of job keys, how many at most, the queued status.
# Returns how many were put back. One script, so that no job is between two places if we die.
PROMOTE = """
local due = redis.call('ZRANGEBYSCORE', KEYS[1], 0, ARGV[1], 'LIMIT', 0, ARGV[3])
local put = 0
for _, id in ipairs(due) do
  redis.call('ZREM', KEYS[1], id)
  if redis.call('EXISTS', ARGV[2] .. id) == 1 then
    redis.call('HSET', ARGV[2] .. id, 'status', ARGV[4])
    redis.call('RPUSH', KEYS[2], id)
    put = put + 1
  end
end
return put
"""
PROMOTE_AT_MOST = 1000


@cache
def connection() -> Redis:
    """This process's connections to Redis, shared by all its threads."""
    return Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=settings.VELO_REQUEST_TIMEOUT + 10,  # longer than any wait for an answer
        socket_connect_timeout=2,
        health_check_interval=30,
        # A connection that the server has closed meanwhile is worth one more try, at once; whoever
        # waits for a Redis that is away wants to know.
        retry=Retry(NoBackoff(), 1),
    )


@cache
def queue(name: str = QUEUE) -> Queue:
    return Queue(
        name,
        connection=connection(),
        default_timeout=settings.VELO_JOB_TIMEOUT,
        serializer=JSONSerializer,
    )


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

    def now(self) -> float:
        if time.monotonic() - self._read_at > self.MAX_AGE:
            self._read()
        return time.monotonic() + self._offset

    def _read(self) -> None:
        with self._lock:
            if time.monotonic() - self._read_at <= self.MAX_AGE:
                return  # another thread has just done it
            _, self._offset = min(self._reading() for _ in range(self.READINGS))
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
    """What an arriving request finds."""

    waiting: int  # inputs in the queue
    workers: int  # alive, with a loaded model


def load(name: str = QUEUE) -> Load:
    """One round trip."""
    with connection().pipeline(transaction=False) as pipeline:
        pipeline.llen(queue(name).key)
        pipeline.zcount(leases_key(name), clock.now(), "+inf")
        waiting, workers = pipeline.execute()
    return Load(waiting, workers)


def leases_key(name: str) -> str:
    """A sorted set: who serves this queue, by the time until which they are known to be alive."""
    return f"velo:leases:{name}"


def withdraw(job: Job) -> bool:
    """Drop a job, unless a worker has started it or it has ended. True if it was dropped."""
    origin = queue(job.origin)
    dropped = connection().eval(
        WITHDRAW,
        3,
        job.key,
        origin.key,
        ScheduledJobRegistry(queue=origin).key,
        job.id,
        JobStatus.QUEUED.value,
        JobStatus.SCHEDULED.value,
    )
    return bool(dropped)


def promote_due(origin: Queue) -> int:
    """Put the jobs whose retry interval is over back into their queue; returns how many."""
    put = connection().eval(
        PROMOTE,
        2,
        ScheduledJobRegistry(queue=origin).key,
        origin.key,
        clock.now(),
        Job.key_for(""),
        PROMOTE_AT_MOST,
        JobStatus.QUEUED.value,
    )
    return cast(int, put)

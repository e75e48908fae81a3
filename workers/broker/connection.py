"""This process's connections to Redis, the queues there, and the scripts that the server runs.

The keys and fields are RQ's own, so that `rq info` and `Job.fetch` read them.
"""

from functools import cache
from pathlib import Path
from typing import cast

from django.conf import settings
from redis import Redis
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry
from rq import Queue
from rq.suspension import WORKERS_SUSPENDED

from workers.broker.names import QUEUE
from workers.broker.wire import JSONSerializer

PATIENCE = 3.0  # seconds for an answer of Redis; no command here blocks for more than one


@cache
def connection() -> Redis:
    """This process's connections to Redis, shared by all its threads."""
    return Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=PATIENCE,
        socket_connect_timeout=2,
        health_check_interval=30,
        # If the server has closed the connection in the meantime, one immediate retry is enough;
        # callers that wait for an unavailable Redis need the error.
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    )


@cache
def queue(name: str = QUEUE) -> Queue:
    """RQ's queue of this name, with Velo's connection, serializer and time limit."""
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


def is_suspended() -> bool:
    """Whether RQ's workers take no jobs at the moment: `rq suspend`. Raises RedisError."""
    return bool(connection().exists(WORKERS_SUSPENDED))


def must_be_writable() -> None:
    """Raises RedisError if Redis is away, or refuses to be written to: its disk or its memory is
    full, or it is a replica."""
    connection().set("velo:writable", 1, px=1)


@cache
def script(name: str) -> Script:
    """The server-side script in lua/NAME.lua: it is sent once, afterwards its hash is."""
    source = (Path(__file__).parent / "lua" / f"{name}.lua").read_text()
    return connection().register_script(source)

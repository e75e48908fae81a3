"""Hands a text to the workers and waits for the answer; the only room here that knows RQ."""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from django.conf import settings
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq.results import Result

from inference.errors import DeadlinePassed, ModelFailed, NoWorker, QueueAway, QueueFull
from workers import queue
from workers.jobs import Prediction
from workers.wire import JSONSerializer

log = logging.getLogger(__name__)

DESCRIBED_CHARS = 80  # of the text, in the admin's list of jobs


def transform(text: str) -> Prediction:
    """The model's answer to `text`.

    Raises QueueFull, NoWorker, QueueAway, DeadlinePassed and ModelFailed.
    """
    deadline = time.monotonic() + settings.VELO_REQUEST_TIMEOUT
    with redis_errors():
        job_id = _enqueue(text)
        result = _wait(job_id, deadline)
        if result is None:
            _drop(job_id)
            raise DeadlinePassed(
                f"No answer within {settings.VELO_REQUEST_TIMEOUT:g} s. The job was dropped. "
                "Try again when fewer requests wait, or add workers.",
                job_id=job_id,
            )
    if result.type is not Result.Type.SUCCESSFUL:
        raise ModelFailed(
            f"Every attempt of job {job_id} raised an error. Its traceback is in the admin, "
            "under failed jobs.",
            job_id=job_id,
        )
    return Prediction(**cast(dict[str, Any], result.return_value))


def ready() -> int:
    """The number of live workers that hold a model. Raises NoWorker and QueueAway."""
    with redis_errors():
        load = queue.load()
    if not load.workers:
        raise NoWorker
    return load.workers


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turns Redis's silence into QueueAway."""
    try:
        yield
    except (RedisConnectionError, RedisTimeoutError) as error:
        log.warning("Redis: %s", error)
        raise QueueAway from error


def _enqueue(text: str) -> str:
    """The id of its job."""
    now = queue.clock.now()
    shown = text if len(text) <= DESCRIBED_CHARS else text[:DESCRIBED_CHARS] + "…"
    job_id, load = queue.enqueue(
        text,
        description=f"infer: {shown}",
        meta={"enqueued": now, "deadline": now + settings.VELO_REQUEST_TIMEOUT},
        # Redis forgets a job that still waits when its caller is gone, even if we are gone too.
        ttl=math.ceil(settings.VELO_REQUEST_TIMEOUT),
    )
    if load.admitted:
        return job_id
    if not load.workers:
        raise NoWorker
    raise QueueFull(
        f"{load.waiting} inputs wait already, and no more may. "
        f"Try again in {QueueFull.retry_after} s, or add workers."
    )


def _wait(job_id: str, deadline: float) -> Result | None:
    """The job's final result, or None if there is none at `deadline` (monotonic seconds)."""
    key = Result.get_key(job_id)
    last = "0-0"
    while (left := deadline - time.monotonic()) > 0:
        answer = queue.connection().xread({key: last}, block=max(1, int(left * 1000)))
        for entry, payload in cast(list[Any], answer)[0][1] if answer else ():
            last = entry.decode()
            result = Result.restore(
                job_id, last, payload, connection=queue.connection(), serializer=JSONSerializer
            )
            # A job that returned rq.Retry writes RETRIED, and goes on.
            if result.type is not Result.Type.RETRIED:
                return result
    return None


def _drop(job_id: str) -> None:
    if not queue.withdraw(job_id):
        log.info("job %s passed its deadline while it ran", job_id)

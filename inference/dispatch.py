"""Hands a text to the workers and waits for the answer; the only room here that knows RQ."""

import logging
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq.results import Result

from inference.errors import APIError, DeadlinePassed, ModelFailed, NoWorker, QueueAway, QueueFull
from inference.exchange import Refused, exchange
from workers import queue
from workers.jobs import Prediction
from workers.queue import NewJob
from workers.wire import JSONSerializer

log = logging.getLogger(__name__)

SUCCESSFUL = str(Result.Type.SUCCESSFUL.value).encode()
DESCRIBED_CHARS = 80  # of the text, in the admin's list of jobs


def transform(text: str) -> Prediction:
    """The model's answer to `text`.

    Raises QueueFull, NoWorker, QueueAway, DeadlinePassed and ModelFailed.
    """
    job = _job(text)
    with redis_errors():
        outcome = exchange().ask(job, settings.VELO_REQUEST_TIMEOUT)
        if outcome is None:
            _drop(job.id)
            raise DeadlinePassed(
                f"No answer within {settings.VELO_REQUEST_TIMEOUT:g} s. The job was dropped. "
                "Try again when fewer requests wait, or add workers.",
                job_id=job.id,
            )
    if isinstance(outcome, Refused):
        raise _refusal(outcome.load)
    if outcome.fields[b"type"] != SUCCESSFUL:
        raise ModelFailed(
            f"Every attempt of job {job.id} raised an error. Its traceback is in the admin, "
            "under failed jobs.",
            job_id=job.id,
        )
    return Prediction(**JSONSerializer.loads(b64decode(outcome.fields[b"return_value"])))


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


def _job(text: str) -> NewJob:
    now = queue.clock.now()
    shown = text if len(text) <= DESCRIBED_CHARS else text[:DESCRIBED_CHARS] + "…"
    return NewJob(
        text,
        description=f"infer: {shown}",
        meta={"enqueued": now, "deadline": now + settings.VELO_REQUEST_TIMEOUT},
    )


def _refusal(load: queue.Load) -> APIError:
    if not load.workers:
        return NoWorker()
    return QueueFull(
        f"{load.waiting} inputs wait already, and no more may. "
        f"Try again in {QueueFull.retry_after} s, or add workers."
    )


def _drop(job_id: str) -> None:
    if not queue.withdraw(job_id):
        log.info("job %s passed its deadline while it ran", job_id)

"""Hands a text to the workers and waits for the answer; the only room here that knows RQ."""

import logging
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import RedisError
from rq.results import Result

from inference.errors import (
    APIError,
    DeadlinePassed,
    JobLost,
    ModelFailed,
    NoWorker,
    Poisonous,
    QueueAway,
    QueueFull,
)
from inference.exchange import Lost, Refused, exchange
from workers import leases, queue
from workers.jobs import Prediction
from workers.queue import NewJob
from workers.wire import JSONSerializer

log = logging.getLogger(__name__)

SUCCESSFUL = str(Result.Type.SUCCESSFUL.value).encode()
DESCRIBED_CHARS = 80  # of the text, in the admin's list of jobs


def transform(text: str, seconds: float) -> Prediction:
    """The model's answer to `text`, if it comes within so many seconds.

    Raises QueueFull, NoWorker, QueueAway, JobLost, DeadlinePassed, Poisonous and ModelFailed.
    """
    job = _job(text, seconds)
    with redis_errors():
        outcome = exchange().ask(job)
        if outcome is None:
            _drop(job.id)
            raise DeadlinePassed(
                f"No answer within {seconds:g} s. The job was dropped. "
                "Try again when fewer requests wait, or add workers.",
                job_id=job.id,
            )
    match outcome:
        case Refused():
            raise _refusal(outcome.load)
        case Lost():
            raise JobLost(job_id=job.id)
    if outcome.fields[b"type"] == SUCCESSFUL:
        return Prediction(**JSONSerializer.loads(b64decode(outcome.fields[b"return_value"])))
    if crashes := outcome.fields.get(b"crashes"):
        raise Poisonous(
            f"{int(crashes)} workers crashed while they had job {job.id}, so it isn't tried again. "
            "Its history is in the admin, under failed jobs.",
            job_id=job.id,
        )
    raise ModelFailed(
        f"Every attempt of job {job.id} raised an error. Its traceback is in the admin, "
        "under failed jobs.",
        job_id=job.id,
    )


def ready() -> int:
    """The number of live workers that hold a model. Raises NoWorker and QueueAway."""
    with redis_errors():
        load = queue.load()
        if load.workers:
            return load.workers
        reason = leases.failed_start(queue.QUEUE)
    raise NoWorker(f"No worker could start. The last one: {reason}" if reason else "")


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turns Redis's silence, and its refusals, into QueueAway."""
    try:
        yield
    except RedisError as error:
        log.warning("Redis: %s", error)
        raise QueueAway from error


def _job(text: str, seconds: float) -> NewJob:
    shown = text if len(text) <= DESCRIBED_CHARS else text[:DESCRIBED_CHARS] + "…"
    return NewJob(text, f"infer: {shown}", seconds)


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

"""Hands an input to the workers and waits for the answer; the only room here that knows RQ."""

import logging
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from django.conf import settings
from redis.exceptions import RedisError, ResponseError
from rq.results import Result

from inference import timing
from inference.choice import Asked, Route, unanswered
from inference.errors import (
    DeadlinePassed,
    JobLost,
    ModelFailed,
    Poisonous,
    QueueAway,
    QueueFull,
)
from inference.exchange import Ended, Lost, Refused, Stranded, exchange
from inference.kinds import CONTRACTS
from inference.routing import routes
from workers.broker.connection import must_be_writable
from workers.broker.enqueue import NewJob, live_workers, withdraw
from workers.broker.wire import JSONSerializer
from workers.catalog.plan import Plan
from workers.values.prediction import Prediction

log = logging.getLogger(__name__)

SUCCESSFUL = str(Result.Type.SUCCESSFUL.value).encode()
DESCRIBED_CHARS = 80  # of the input, in the admin's list of jobs
TRIES = (
    3  # versions that are asked for one request, if no worker serves the first versions any more
)


def transform(asked: Asked, data: Any, seconds: float) -> Prediction:
    """The answer to `data` of the model that is asked, if it comes within `seconds`.

    Raises what a kind's check, `choose` and `_prediction` do.
    """
    with redis_errors():
        asking = _ask(asked, data, time.monotonic() + seconds)
        try:
            if asking.outcome is None:
                _drop(asking.job)
                raise DeadlinePassed(
                    f"No answer within {seconds:g} s. The job was dropped. "
                    "Try again when fewer requests wait, or add workers."
                )
            prediction = _prediction(asking.job.id, asking.outcome)
        except (DeadlinePassed, ModelFailed, Poisonous):
            timing.record_failure(asking.route.label)
            raise
    if asking.route.shadow:
        exchange().send(_copy(asking.route.shadow, asking.job, prediction))
    return prediction


@dataclass(frozen=True)
class Asking:
    """The version that was asked, and the outcome."""

    route: Route
    job: NewJob
    outcome: Ended | Lost | None


def _ask(asked: Asked, data: Any, until: float) -> Asking:
    """Ask one version; ask another version if no worker serves the first any more."""
    without: frozenset[str] = frozenset()
    crashes = 0
    for _ in range(TRIES):
        route = routes().choose(asked, without)
        without |= {route.label}
        elsewhere = None if route.pinned else partial(routes().has_another, asked, without)
        checked = CONTRACTS[route.kind].check(data, route.schema)
        job = replace(_job(route.label, checked, until - time.monotonic()), crashes=crashes)
        outcome = exchange().ask(job, elsewhere)
        match outcome:
            case Refused() if outcome.load.workers:
                raise QueueFull(
                    f"{outcome.load.waiting} inputs wait already, and no more may. "
                    f"Try again in {QueueFull.retry_after} s, or add workers."
                )
            case Refused() | Stranded():
                routes().refresh()
                if route.pinned:
                    raise unanswered(routes().known(), route.label)
                if isinstance(outcome, Stranded):
                    crashes = outcome.crashes
            case _:
                return Asking(route, job, outcome)
    raise routes().known().nobody(route.label)


def _prediction(job_id: str, outcome: Ended | Lost) -> Prediction:
    """Raises JobLost, Poisonous and ModelFailed."""
    if isinstance(outcome, Lost):
        raise JobLost  # without the id of a job that can be found nowhere
    if outcome.fields[b"type"] == SUCCESSFUL:
        return Prediction(**JSONSerializer.loads(b64decode(outcome.fields[b"return_value"])))
    if crashes := outcome.fields.get(b"crashes"):
        raise Poisonous(
            f"{int(crashes)} workers crashed while they had job {job_id}, so it isn't tried again. "
            "Its history is in the admin, under failed jobs.",
            job_id=job_id,
        )
    raise ModelFailed(
        f"Every attempt of job {job_id} raised an error. Its traceback is in the admin, "
        "under failed jobs.",
        job_id=job_id,
    )


def models() -> dict[str, Any]:
    """The models and their versions. Raises QueueAway if none is known and Redis is away."""
    with redis_errors():
        return routes().listing()


def known_plan() -> Plan:
    """The plan, empty if there is none. Raises QueueAway if none is known and Redis is away."""
    with redis_errors():
        return routes().known().plan or Plan()


def ready() -> int:
    """How many workers are alive, if a request to the default model would be answered now.

    Raises NoWorker, Suspended and QueueAway: what /transform would raise.
    """
    with redis_errors():
        must_be_writable()
        routes().refresh()
        tried: list[str] = []
        while True:
            label = routes().default(without=tried)
            if label in tried:
                raise routes().known().nobody(label)
            if live_workers(label):
                return live_workers()
            tried.append(label)


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turns Redis's silence, and its refusals, into QueueAway."""
    try:
        yield
    except ResponseError as error:
        log.warning("Redis: %s", error)
        raise QueueAway(
            f"Redis refuses to be written to: {error} Give its machine free disk space and memory, "
            "or name its primary in REDIS_URL. Then try again."
        ) from error
    except RedisError as error:
        log.warning("Redis: %s", error)
        raise QueueAway from error


def _job(label: str, data: Any, seconds: float) -> NewJob:
    return NewJob(label, data, f"infer: {_shown(data)}", seconds)


def _copy(shadow: str, job: NewJob, prediction: Prediction) -> NewJob:
    return NewJob(
        shadow,
        job.input,
        f"shadow: {_shown(job.input)}",
        settings.VELO_REQUEST_TIMEOUT,
        compare={"to": prediction.model_version, "output": prediction.output},
    )


def _shown(data: Any) -> str:
    text = data if isinstance(data, str) else JSONSerializer.dumps(data).decode()
    return text if len(text) <= DESCRIBED_CHARS else text[:DESCRIBED_CHARS] + "…"


def _drop(job: NewJob) -> None:
    if withdraw(job) is None:
        log.info("job %s passed its deadline while it ran", job.id)

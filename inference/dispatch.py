"""Inputs in, predictions out: what the protocols ask of the workers, and what they are told."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from redis.exceptions import RedisError, ResponseError

from inference import callers, timing
from inference.asking import Asked, Asking, Demand, shown
from inference.asking import ask as ask_workers
from inference.choice import Route, Target
from inference.errors import (
    INPUT_ERRORS,
    APIError,
    DeadlinePassed,
    JobLost,
    ModelFailed,
    Poisonous,
    QueueAway,
)
from inference.exchange import exchange
from inference.routing import routes
from inference.waiting import Ended, Lost
from workers.broker.connection import must_be_writable
from workers.broker.enqueue import NewJob, live_workers, withdraw
from workers.catalog.plan import Plan, PlannedVersion
from workers.predictors import NO_PARAMETERS
from workers.values.prediction import Prediction
from workers.values.version_id import VersionId

log = logging.getLogger(__name__)

DEFAULT = Target()  # the default model


def kind_of(target: Target) -> str:
    """The kind of the model that would answer. Raises what `Routes.choose` does, and QueueAway."""
    with redis_errors():
        return routes().likely(target).kind


@dataclass(frozen=True)
class Served:
    """A version that live workers serve."""

    id: VersionId
    kind: str
    version: PlannedVersion | None  # None: not in the plan yet
    workers: int


def served(target: Target) -> Served:
    """The version that would answer most such requests now. Raises what `ready` does."""
    with redis_errors():
        route = _answering(target)
        plan = routes().known().plan
        return Served(
            VersionId.parse(route.label),
            route.kind,
            plan.version(route.label) if plan else None,
            live_workers(route.label),
        )


def transform(target: Target, data: Any, seconds: float) -> Prediction:
    """The answer to one input; see `ask`."""
    [prediction] = ask(target, [data], seconds)
    return prediction


def ask(
    target: Target,
    inputs: Sequence[Any],
    seconds: float,
    names: Sequence[str] = (),
    parameters: Mapping[str, Any] = NO_PARAMETERS,
) -> list[Prediction]:
    """The answers to `inputs`, in their order, all by one version, within `seconds` for all.
    `names`: what errors call them; without it input[0], input[1], … `parameters`: how they are
    read and answered, where that isn't the version's own way; see docs/kinds.md.

    They are let in together or not at all; see `enqueue`. The first failure fails the request, and
    the jobs of it that still wait are dropped.

    Raises what `Routes.choose` does, and QueueFull, DeadlinePassed, NoWorker and QueueAway. Because
    of one input: InvalidInput, NotAString, BlankInput, InputTooLong, JobLost, Poisonous and
    ModelFailed, whose message begins with the input's name, as input[17], if there are several.
    """
    with redis_errors():
        names = names or [f"input[{number}]" for number in range(len(inputs))]
        until = time.monotonic() + seconds
        demand = Demand(inputs, names, parameters, until)
        asking = ask_workers(target, demand)
        try:
            _drop(asking)
            predictions = _predictions(asking, demand, seconds)
        except (DeadlinePassed, ModelFailed, Poisonous):
            timing.record_failure(asking.route.label)
            raise
    callers.current().predictions = predictions
    if asking.route.shadow:
        for data, prediction in zip(inputs, predictions, strict=True):
            exchange().send(_copy(asking.route.shadow, data, parameters, prediction))
    return predictions


def _predictions(asking: Asking, demand: Demand, seconds: float) -> list[Prediction]:
    """Raises JobLost, Poisonous, ModelFailed and DeadlinePassed."""
    answers: dict[int, Mapping[str, Any]] = {}
    dropped = 0
    for one in asking.asked:
        if one.answers is not None:
            answers |= zip(one.positions, one.answers, strict=True)
        elif isinstance(one.outcome, Ended | Lost) and (failure := _failure(one)):
            alone = len(one.positions) == 1
            callers.current().job = one.job.id
            raise demand.named(failure, one.positions[0]) if alone else failure
        else:
            dropped += 1
    if dropped:
        alone = len(demand.inputs) == 1
        what = "The job was dropped." if alone else f"{dropped} jobs were dropped."
        raise DeadlinePassed(
            f"No answer within {seconds:g} s. {what} "
            "Try again when fewer requests wait, or add workers."
        )
    values = [answers[position] for position in range(len(demand.inputs))]
    for number, value in enumerate(values):
        if refused := value.get("refused"):
            error = INPUT_ERRORS[refused["code"]](refused["message"])
            raise demand.named(error, number)
    return [Prediction(**value) for value in values]


def _failure(asked: Asked) -> APIError | None:
    """JobLost, Poisonous or ModelFailed; None if it may have had no time to succeed."""
    job_id, outcome = asked.job.id, asked.outcome
    if isinstance(outcome, Lost):
        return JobLost()  # without the id of a job that can be found nowhere
    if asked.is_asked_apart or not isinstance(outcome, Ended):
        return None
    if crashes := outcome.fields.get(b"crashes"):
        return Poisonous(
            f"{int(crashes)} workers crashed while they had job {job_id}, so it isn't tried again. "
            "Its history is in the admin, under failed jobs.",
            job_id=job_id,
        )
    return ModelFailed(
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


def ready(target: Target = DEFAULT) -> int:
    """How many workers are alive, if a request to this target would be answered now.

    Raises what `Routes.choose` does, and QueueAway: what the request would raise.
    """
    with redis_errors():
        must_be_writable()
        routes().refresh()
        _answering(target)
        return live_workers()


def _answering(target: Target) -> Route:
    """Where a request would go now, to a version that live workers serve."""
    tried: list[str] = []
    while True:
        route = routes().likely(target, tried)
        if route.label in tried:
            raise routes().known().nobody(route.label)
        if live_workers(route.label):
            return route
        tried.append(route.label)


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turns Redis's silence, and its refusals, into QueueAway."""
    try:
        yield
    except ResponseError as error:
        log.warning("Redis: %s", error)
        raise QueueAway(
            f"Redis refuses to be written to: {str(error).rstrip('.')}. Give its machine free disk "
            "space and memory, or name its primary in REDIS_URL. Then try again."
        ) from error
    except RedisError as error:
        log.warning("Redis: %s", error)
        raise QueueAway from error


def _copy(shadow: str, data: Any, parameters: Mapping[str, Any], prediction: Prediction) -> NewJob:
    return NewJob(
        shadow,
        data,
        f"shadow: {shown(data)}",
        settings.VELO_REQUEST_TIMEOUT,
        compare={"to": prediction.model_version, "output": prediction.output},
        parameters=parameters,
    )


def _drop(asking: Asking) -> None:
    """The jobs of which nothing is known, when nobody waits for them any more."""
    open_ = [one.job for one in asking.asked if one.outcome is None]
    if open_ and None in (dropped := withdraw(open_)):
        log.info("%d jobs passed their deadline while they ran", dropped.count(None))

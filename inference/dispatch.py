"""Hands inputs to the workers and waits for the answers; only here and in exchange RQ is known."""

import logging
import time
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from django.conf import settings
from redis.exceptions import RedisError, ResponseError

from inference import timing
from inference.choice import Route, Target, unanswered
from inference.errors import (
    INPUT_ERRORS,
    APIError,
    DeadlinePassed,
    JobLost,
    ModelFailed,
    Poisonous,
    QueueAway,
    QueueFull,
)
from inference.exchange import exchange
from inference.routing import routes
from inference.waiting import Ended, Lost, Outcome, Refused, Stranded
from workers.broker.connection import must_be_writable
from workers.broker.enqueue import NewJob, live_workers, withdraw
from workers.broker.wire import JSONSerializer, unpack
from workers.catalog.plan import Plan, PlannedVersion
from workers.predictors import KINDS, NO_PARAMETERS, InputError
from workers.values.prediction import Prediction
from workers.values.version_id import VersionId

log = logging.getLogger(__name__)

DESCRIBED_CHARS = 80  # of the input, in the admin's list of jobs
DEFAULT = Target()  # the default model
TRIES = 3  # versions that are asked for one request, while no worker serves the versions before


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
        asking = _ask(target, inputs, time.monotonic() + seconds, names, parameters)
        try:
            _drop(asking)
            predictions = _predictions(asking, seconds, names)
        except (DeadlinePassed, ModelFailed, Poisonous):
            timing.record_failure(asking.route.label)
            raise
    if asking.route.shadow:
        for job, prediction in zip(asking.jobs, predictions, strict=True):
            exchange().send(_copy(asking.route.shadow, job, prediction))
    return predictions


@dataclass(frozen=True)
class Asking:
    """The version that was asked, and what came of each input."""

    route: Route
    jobs: list[NewJob]
    outcomes: list[Ended | Lost | None]


def _ask(
    target: Target,
    inputs: Sequence[Any],
    until: float,
    names: Sequence[str],
    parameters: Mapping[str, Any],
) -> Asking:
    """Ask one version; ask another version if no worker serves the first any more."""
    without: frozenset[str] = frozenset()
    crashes = [0] * len(inputs)
    for _ in range(TRIES):
        route = routes().choose(target, without)
        without |= {route.label}
        elsewhere = None if route.pinned else partial(routes().has_another, target, without)
        _check(route, inputs, names)
        left = until - time.monotonic()
        jobs = [
            _job(route.label, data, left, crashed, parameters)
            for data, crashed in zip(inputs, crashes, strict=True)
        ]
        outcomes = exchange().ask(jobs, elsewhere)
        unserved = next((one for one in outcomes if isinstance(one, Refused | Stranded)), None)
        if unserved is None:
            return Asking(route, jobs, cast(list[Ended | Lost | None], outcomes))
        if isinstance(unserved, Refused) and unserved.load.workers:
            raise _full(unserved.load.waiting, len(inputs))
        if isinstance(unserved, Stranded):
            crashes = _withdrawn(jobs, outcomes)
        routes().refresh()
        if route.pinned:
            raise unanswered(routes().known(), route.label)
    raise routes().known().nobody(route.label)


def _full(waiting: int, more: int) -> QueueFull:
    again = f"Try again in {QueueFull.retry_after} s, or add workers."
    if more == 1:
        return QueueFull(f"{waiting} inputs wait already, and no more may. {again}")
    return QueueFull(
        f"{waiting} inputs wait already; with {more} more they would be over the limit of "
        f"{settings.VELO_MAX_QUEUE}. {again}"
    )


def _withdrawn(jobs: Sequence[NewJob], outcomes: Sequence[Outcome | None]) -> list[int]:
    """Withdraw the jobs that are to be asked elsewhere; returns in how many crashes each was."""
    withdrawn = withdraw(jobs)
    return [
        outcome.crashes if isinstance(outcome, Stranded) else found or 0
        for outcome, found in zip(outcomes, withdrawn, strict=True)
    ]


def _check(route: Route, inputs: Sequence[Any], names: Sequence[str]) -> None:
    """By the version's kind and schema. Raises InvalidInput, NotAString, BlankInput and
    InputTooLong."""
    check = KINDS[route.kind].check
    for number, data in enumerate(inputs):
        try:
            check(data, route.schema)
        except InputError as error:
            refused = INPUT_ERRORS[error.code](str(error))
            raise _named(refused, number, names) from None


def _named(error: APIError, number: int, names: Sequence[str]) -> APIError:
    """Of the input with this number, if there are several."""
    if len(names) == 1:
        return error
    name = names[number]
    return type(error)(f"{name}: {error.detail}", param=name, **error.extra)


def _predictions(asking: Asking, seconds: float, names: Sequence[str]) -> list[Prediction]:
    """Raises JobLost, Poisonous, ModelFailed and DeadlinePassed."""
    count = len(asking.jobs)
    for number, (job, outcome) in enumerate(zip(asking.jobs, asking.outcomes, strict=True)):
        if outcome is not None and (failure := _failure(job.id, outcome)):
            raise _named(failure, number, names)
    ended = [outcome for outcome in asking.outcomes if isinstance(outcome, Ended)]
    if len(ended) < count:
        what = "The job was dropped." if count == 1 else f"{count - len(ended)} jobs were dropped."
        raise DeadlinePassed(
            f"No answer within {seconds:g} s. {what} "
            "Try again when fewer requests wait, or add workers."
        )
    values = [unpack(b64decode(one.fields[b"return_value"])) for one in ended]
    for number, value in enumerate(values):
        if refused := value.get("refused"):
            error = INPUT_ERRORS[refused["code"]](refused["message"])
            raise _named(error, number, names)
    return [Prediction(**value) for value in values]


def _failure(job_id: str, outcome: Ended | Lost) -> APIError | None:
    """JobLost, Poisonous or ModelFailed; None if it succeeded."""
    if isinstance(outcome, Lost):
        return JobLost()  # without the id of a job that can be found nowhere
    if outcome.succeeded:
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


def _job(
    label: str,
    data: Any,
    seconds: float,
    crashes: int = 0,
    parameters: Mapping[str, Any] = NO_PARAMETERS,
) -> NewJob:
    described = f"infer: {_shown(data)}"
    return NewJob(label, data, described, seconds, crashes=crashes, parameters=parameters)


def _copy(shadow: str, job: NewJob, prediction: Prediction) -> NewJob:
    return NewJob(
        shadow,
        job.input,
        f"shadow: {_shown(job.input)}",
        settings.VELO_REQUEST_TIMEOUT,
        compare={"to": prediction.model_version, "output": prediction.output},
        parameters=job.parameters,
    )


def _shown(data: Any) -> str:
    text = data if isinstance(data, str) else JSONSerializer.dumps(data).decode()
    return text if len(text) <= DESCRIBED_CHARS else text[:DESCRIBED_CHARS] + "…"


def _drop(asking: Asking) -> None:
    """The jobs of which nothing is known, when nobody waits for them any more."""
    open_ = [
        job for job, outcome in zip(asking.jobs, asking.outcomes, strict=True) if outcome is None
    ]
    if open_ and None in (dropped := withdraw(open_)):
        log.info("%d jobs passed their deadline while they ran", dropped.count(None))

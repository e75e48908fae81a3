"""Asks one version for a request's inputs, in as few jobs as that is worth, and another version if
no worker serves it any more."""

import time
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from django.conf import settings

from inference import callers
from inference.bundles import bundles
from inference.choice import Route, Target, unanswered
from inference.errors import INPUT_ERRORS, APIError, QueueFull, RateLimited
from inference.exchange import exchange
from inference.routing import routes
from inference.waiting import Ended, Outcome, Refused, Stranded
from workers.broker.enqueue import Admission, NewJob, withdraw
from workers.broker.names import Lane
from workers.broker.wire import JSONSerializer, each, unpack
from workers.predictors import KINDS, NO_PARAMETERS, InputError

DESCRIBED_CHARS = 80  # of the input, in the admin's list of jobs
TRIES = 3  # versions that are asked for one request, while no worker serves the versions before


@dataclass(frozen=True)
class Asked:
    """A job, and what came of it."""

    positions: Sequence[int]  # of its inputs, in the request
    job: NewJob
    outcome: Outcome | None  # None: unknown when another job failed, or when the time was over
    # Of its inputs; None where it didn't succeed, or where they are to be asked apart.
    answers: Sequence[Mapping[str, Any]] | None = None
    crashes: int = 0  # of workers that had it, where they are to be asked apart

    @classmethod
    def of(cls, positions: Sequence[int], job: NewJob, outcome: Outcome | None) -> "Asked":
        """Reads the answers."""
        if not isinstance(outcome, Ended) or not outcome.succeeded:
            return cls(positions, job, outcome)
        value = unpack(b64decode(outcome.fields[b"return_value"]))
        if not job.several:
            return cls(positions, job, outcome, [value])
        answers = each(value)
        crashes = 0 if answers else value["apart"]["crashes"]
        return cls(positions, job, outcome, answers, crashes)

    @property
    def is_asked_apart(self) -> bool:
        """Whether each of its inputs must be asked alone, so that an error names the input."""
        return self.job.several and isinstance(self.outcome, Ended) and self.answers is None


@dataclass(frozen=True)
class Asking:
    """The version that was asked, and all jobs that it was asked with."""

    route: Route
    asked: Sequence[Asked]


@dataclass(frozen=True)
class Demand:
    """What a request asks for."""

    inputs: Sequence[Any]
    names: Sequence[str]  # of the inputs, in errors
    parameters: Mapping[str, Any]
    until: float  # by time.monotonic

    def named(self, error: APIError, position: int) -> APIError:
        """The error, beginning with the name of the input, if there are several."""
        if len(self.inputs) == 1:
            return error
        name = self.names[position]
        return type(error)(f"{name}: {error.detail}", param=name, **error.extra)


def ask(target: Target, demand: Demand) -> Asking:
    """What came of each input: of one version, which is that of the last try.

    Raises what `Routes.choose` does, QueueFull, NoWorker, RedisError, and InvalidInput, NotAString,
    BlankInput and InputTooLong because of one input.
    """
    without: frozenset[str] = frozenset()
    crashes = [0] * len(demand.inputs)
    for _ in range(TRIES):
        route = routes().choose(target, without)
        without |= {route.label}
        # Asked by another thread, for this caller.
        has_another = partial(routes().has_another, target, without)
        elsewhere = None if route.pinned else partial(copy_context().run, has_another)
        caller = callers.current()
        caller.label, caller.inputs = route.label, len(demand.inputs)
        _check(route, demand)
        asked = _ask_version(route, demand, crashes, elsewhere)
        outcomes = [one.outcome for one in asked]
        unserved = next((one for one in outcomes if isinstance(one, Refused | Stranded)), None)
        if unserved is None:
            return Asking(route, asked)
        if isinstance(unserved, Refused) and unserved.load.workers:
            raise _refusal(unserved, len(demand.inputs))
        if isinstance(unserved, Stranded):
            _withdraw(asked, crashes)
        routes().refresh()
        if route.pinned:
            raise unanswered(routes().known(), route.label)
    raise routes().known().nobody(route.label)


def _ask_version(
    route: Route, demand: Demand, crashes: list[int], elsewhere: Callable[[], bool] | None
) -> list[Asked]:
    """In jobs with several inputs; then, where that failed, in a job for each input. `crashes` of
    workers that had an input: counted on."""
    known = routes().known()
    workers = known.holders.get(route.label, 1)
    if route.label in known.one_by_one:
        alone = set(range(len(crashes)))
    else:
        alone = {position for position, count in enumerate(crashes) if count}
    asked = _ask_in(bundles(demand.inputs, workers, alone), route, demand, crashes, elsewhere)
    if not any(one.is_asked_apart for one in asked) or time.monotonic() >= demand.until:
        return asked
    # A job that RQ calls failed ended the wait for the others.
    unknown = [one for one in asked if one.outcome is None]
    withdraw([one.job for one in unknown])
    apart = [*unknown, *(one for one in asked if one.is_asked_apart)]
    for one in apart:
        for position in one.positions:
            crashes[position] += one.crashes
    singles = [[position] for one in apart for position in one.positions]
    again = _ask_in(singles, route, demand, crashes, elsewhere, readmitted=True)
    return [*(one for one in asked if one not in apart), *again]


def _ask_in(
    parts: Sequence[Sequence[int]],
    route: Route,
    demand: Demand,
    crashes: Sequence[int],
    elsewhere: Callable[[], bool] | None,
    readmitted: bool = False,
) -> list[Asked]:
    """`parts`: the positions of the inputs of each job."""
    left = demand.until - time.monotonic()
    caller = callers.current()
    # A request that has been let in once is within its limits.
    grant = caller.grant.without_limits() if caller.grant and caller.charged else caller.grant
    lane = Lane.BACKGROUND if grant and grant.background else Lane.INTERACTIVE
    asked_by: dict[str, Any] = {"request": caller.request_id, "grant": grant}
    jobs = []
    for part in parts:
        inputs = [demand.inputs[position] for position in part]
        job = new_job(route.label, inputs[0], left, crashes[part[0]], demand.parameters)
        if len(inputs) > 1:
            described = f"{job.description} and {len(inputs) - 1} more"
            job = replace(job, input=inputs, several=True, description=described)
        jobs.append(replace(job, readmitted=readmitted, lane=lane, **asked_by))
    outcomes = exchange().ask(jobs, elsewhere)
    caller.charged = True
    return [Asked.of(*one) for one in zip(parts, jobs, outcomes, strict=True)]


def _refusal(refused: Refused, inputs: int) -> APIError:
    said, grant = refused.verdict, callers.current().grant
    if grant is None or said.admission is Admission.NO_ROOM:
        callers.current().found_full = True
        return _full(refused.load.waiting, inputs)
    if said.admission is Admission.RATE:
        return RateLimited(
            f"The key's client may send {grant.inputs_per_minute} inputs a minute. It may send "
            f"{said.inputs_left} now; this request has {inputs}. Try again in "
            f"{said.retry_after} s.",
            retry_after=said.retry_after,
        )
    if said.admission is Admission.TOKENS:
        return RateLimited(
            f"The key's client has used its {grant.tokens_per_day} tokens of this day (UTC). Try "
            f"again in {said.retry_after} s.",
            retry_after=said.retry_after,
        )
    most = grant.inputs_at_once or 0
    if inputs > most:
        return RateLimited(
            f"The key's client may have {most} inputs waiting or computed at a time; this request "
            f"has {inputs}. Send at most {most} inputs in a request.",
            retry_after=None,
            try_again=False,
        )
    return RateLimited(
        f"The key's client may have {most} inputs waiting or computed at a time. Try again in "
        f"{said.retry_after} s, with fewer requests at a time.",
        retry_after=said.retry_after,
    )


def _full(waiting: int, more: int) -> QueueFull:
    again = f"Try again in {QueueFull.retry_after} s, or add workers."
    if more == 1:
        return QueueFull(f"{waiting} inputs wait already, and no more may. {again}")
    return QueueFull(
        f"{waiting} inputs wait already; with {more} more they would be over the limit of "
        f"{settings.VELO_MAX_QUEUE}. {again}"
    )


def _withdraw(asked: Sequence[Asked], crashes: list[int]) -> None:
    """Withdraw the jobs, whose inputs are to be asked elsewhere; notes in how many crashes each
    was."""
    withdrawn = withdraw([one.job for one in asked])
    for one, found in zip(asked, withdrawn, strict=True):
        count = one.outcome.crashes if isinstance(one.outcome, Stranded) else found
        for position in one.positions:
            crashes[position] = max(crashes[position], count or 0)


def _check(route: Route, demand: Demand) -> None:
    """By the version's kind and schema. Raises InvalidInput, NotAString, BlankInput and
    InputTooLong."""
    check = KINDS[route.kind].check
    for position, data in enumerate(demand.inputs):
        try:
            check(data, route.schema)
        except InputError as error:
            refused = INPUT_ERRORS[error.code](str(error))
            raise demand.named(refused, position) from None


def new_job(
    label: str,
    data: Any,
    seconds: float,
    crashes: int = 0,
    parameters: Mapping[str, Any] = NO_PARAMETERS,
) -> NewJob:
    """For one input, whose caller waits `seconds`."""
    described = f"infer: {shown(data)}"
    return NewJob(label, data, described, seconds, crashes=crashes, parameters=parameters)


def shown(data: Any) -> str:
    """The beginning of an input."""
    text = data if isinstance(data, str) else JSONSerializer.dumps(data).decode()
    return text if len(text) <= DESCRIBED_CHARS else text[:DESCRIBED_CHARS] + "…"

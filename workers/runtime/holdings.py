"""The versions that a worker is to hold: which they are, whether they fit, in what state."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from django.conf import settings

from workers import predictors
from workers.catalog.plan import Plan
from workers.host import machine, memory
from workers.metrics.latency import Recorder
from workers.predictors import ModelError, Spec
from workers.runtime.runner import Runner

log = logging.getLogger(__name__)


class State(StrEnum):
    """Where a version is in a worker."""

    LOADING = "loading"  # is read and warmed up, beside the serving versions
    READY = "ready"  # takes requests
    LEAVING = "leaving"  # takes no more; what it has in hand is finished
    WAITING = "waiting"  # there is no memory for it
    FAILED = "failed"  # it couldn't be loaded


@dataclass(frozen=True)
class Held:
    """One version in this worker, or on its way there, as it was at one moment."""

    label: str
    memory: int | None  # bytes
    state: State = State.LOADING
    error: str = ""
    runner: Runner | None = None
    since: datetime = field(default_factory=lambda: datetime.now(UTC))

    def became(self, state: State, error: str = "") -> "Held":
        """A copy in another state, from now on."""
        return replace(self, state=state, error=error, since=datetime.now(UTC))

    def to_json(self) -> dict[str, Any]:
        """As the worker's row keeps it."""
        runner = self.runner
        return {
            "state": self.state.value,
            "since": self.since.isoformat(),
            "error": self.error,
            "memory": self.memory,
            "engine": runner.predictor.engine_chosen if runner else "",
            "batches": runner.batches.to_json() if runner else {},
            "model_time": runner.model_time() if runner else None,
        }


def wanted(
    plan: Plan | None, declared: Spec | None, named: Sequence[str] = (), follows: bool = True
) -> list[str]:
    """Labels of the versions that a worker is to hold, the most important first.

    `named`: versions on its command line; `follows`: whether it also holds what the admin says,
    and what it was started with where nobody has decided otherwise.
    """
    labels = list(named)
    if not follows:
        return labels
    models = list(plan.models.values()) if plan else []
    if plan:
        models.sort(key=lambda model: model.name != plan.default)
    if declared and serves_declared(plan, declared):
        labels.append(declared.label)
    for model in models:
        for version in model.wanted():
            # Where the environment decides, each worker has a version of its own.
            if not (model.follows_environment and version == model.active):
                labels.append(f"{model.name}@{version}")
    return list(dict.fromkeys(labels))


def serves_declared(plan: Plan | None, declared: Spec) -> bool:
    """Whether a worker serves the version that it was started with, whatever else is active."""
    model = plan.models.get(declared.name) if plan else None
    return model is None or model.follows_environment


def fits(held: Mapping[str, Held], memory: int | None) -> bool:
    """Whether it fits beside the held versions. An unmeasured version fits."""
    budget: int = settings.VELO_WORKER_MEMORY_MB * 1024 * 1024
    taken = sum(one.memory or 0 for one in held.values() if one.runner)
    return not budget or taken + (memory or 0) <= budget


def no_room(label: str, memory: int | None, held: Mapping[str, Held]) -> str:
    """Why it doesn't fit, and what to do."""
    budget = settings.VELO_WORKER_MEMORY_MB
    others = [f"{key} ({_megabytes(one.memory)})" for key, one in held.items() if one.runner]
    beside = f", of which {', '.join(others)} take their part" if others else ""
    return (
        f"{label} takes {_megabytes(memory)}; a worker may hold {budget} MB{beside}. Raise "
        "VELO_WORKER_MEMORY_MB, or let another worker hold it."
    )


def _megabytes(size: int | None) -> str:
    return "an unknown size" if size is None else f"{size / 1024**2:.0f} MB"


def load(spec: Spec, threads: int, worker: str, recorder: Recorder) -> tuple[Runner, int]:
    """Read and warmed up; and by how many bytes this process has grown. Raises ModelError."""
    started = time.monotonic()
    predictors.prepare(spec)  # is there for all versions
    before = machine.resident()
    try:
        predictor = predictors.load(spec, threads)
        runner = Runner(predictor, worker, recorder)
        runner.use_threads(threads)
        predictor.warm_up()
    except (ModelError, OSError):
        raise
    except MemoryError as error:
        raise ModelError(f"{spec.label} needs more memory than there is.") from error
    log.info(
        "worker %s: %s is loaded, in %.1f s; engine: %s; a call costs %d tokens besides its own",
        *(worker, spec.label, time.monotonic() - started),
        *(predictor.engine_chosen, predictor.call_tokens),
    )
    return runner, max(0, machine.resident() - before)


def free(held: Held) -> Held:
    """Let its memory go; returns what is left to say of it."""
    if held.runner:
        held.runner.predictor.close()
    else:  # a load that failed leaves something behind too
        memory.give_back()
    return replace(held, runner=None)

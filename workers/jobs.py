"""The process boundary: the job that the web enqueues by its path, and what comes back."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Protocol

from workers.values.prediction import Prediction

INFER = "workers.jobs.infer"


class Runner(Protocol):
    """What a worker installs here: it holds the model."""

    def infer(self, given: Any, parameters: Mapping[str, Any]) -> Prediction: ...


_runner: Runner | None = None


def install(runner: Runner | None) -> None:
    """From now on this process answers jobs with `runner`."""
    global _runner
    _runner = runner


def infer(
    given: Any, compare: Any = None, parameters: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The job function. Returns the fields of a Prediction. `compare`, `parameters`: see NewJob in
    broker/enqueue.py."""
    if _runner is None:
        raise RuntimeError(
            "This process has no such model in memory. Inference jobs need the worker class "
            "workers.worker.InferenceWorker, which `manage.py rqworker` starts."
        )
    return asdict(_runner.infer(given, parameters or {}))

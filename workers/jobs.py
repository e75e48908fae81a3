"""The process boundary: the job that the web enqueues by its path, and what comes back."""

from dataclasses import asdict, dataclass
from typing import Any, Protocol

INFER = "workers.jobs.infer"


@dataclass(frozen=True)
class Prediction:
    """The answer to one input, as it crosses from worker to web."""

    output: Any  # JSON; an embedding is a numpy array of float32 until it is serialized
    model_version: str  # "name@version"
    worker: str  # its id
    tokens: int  # that the model read
    truncated: bool  # the input had more
    queue_time: float  # seconds from enqueue to the worker's start
    model_time: float  # seconds in the model


class Runner(Protocol):
    """What a worker installs here: it holds the model."""

    def infer(self, given: Any) -> Prediction: ...


_runner: Runner | None = None


def install(runner: Runner | None) -> None:
    """From now on this process answers jobs with `runner`."""
    global _runner
    _runner = runner


def infer(given: Any, compare: Any = None) -> dict[str, Any]:
    """The job function. Returns the fields of a Prediction. `compare`: see queue.NewJob."""
    if _runner is None:
        raise RuntimeError(
            "This process has no such model in memory. Inference jobs need the worker class "
            "workers.worker.InferenceWorker, which `manage.py rqworker` starts."
        )
    return asdict(_runner.infer(given))

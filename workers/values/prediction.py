"""The answer to one input, as it crosses from worker to web."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Prediction:
    """The answer to one input, as it crosses from worker to web."""

    output: Any  # JSON; an embedding is a numpy array of float32
    model_version: str  # "name@version"
    worker: str  # its id
    tokens: int  # that the model read
    truncated: bool  # the input had more
    queue_time: float  # seconds from enqueue to the worker's start
    model_time: float  # seconds in the model

"""A stand-in model that only sleeps: for trying the system without weights."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy
from django.conf import settings

from workers.predictors import options, vectors
from workers.predictors.protocol import (
    NO_PARAMETERS,
    Encoded,
    InputError,
    ModelError,
    Parameters,
    Spec,
    Vector,
    check_parameters,
)

DIMENSIONS = 32
# Of the kind embed: each text is read whole, and each vector has the length 1 already.
PARAMETERS: dict[str, type] = {
    "truncate": bool,
    "truncation_side": str,
    "normalize": bool,
    "input_type": str,
}


class SleepPredictor:
    """Sleeps for each text. Its answer is a unit vector made from the text's hash: the same text
    always gets the same answer, and different texts get different answers."""

    source = "workers.predictors.sleep"
    task = "embed"
    dimensions = DIMENSIONS
    engine_chosen = "none: it only sleeps"
    facts: Mapping[str, Any] = MappingProxyType({})  # none
    call_tokens = 0
    sample = "Hello, world!"

    def __init__(self, spec: Spec) -> None:
        milliseconds = options.checked(spec, {"ms": float}).get("ms", settings.VELO_SLEEP_MS)
        if not 0 <= milliseconds < float("inf"):
            raise ModelError(f"The option 'ms' of {spec.label} is below 0 or no finite number.")
        self.spec = spec
        self.kind = spec.kind
        self.name, self.version = spec.name, spec.version
        self.seconds = milliseconds / 1000

    def encode(
        self, inputs: Sequence[Any], parameters: Parameters = NO_PARAMETERS
    ) -> list[Encoded]:
        """Raises InputError unless each input is a string. A character counts as a token, and
        there is nothing that the parameters would change."""
        check_parameters(parameters, PARAMETERS, self.kind)
        if not all(isinstance(text, str) for text in inputs):
            raise InputError("The kind 'sleep' takes a string.")
        return [Encoded(text, len(text), truncated=False) for text in inputs]

    def predict(self, batch: Sequence[Encoded]) -> list[Vector]:
        """Sleeps for all texts together, then returns a unit vector for each."""
        if self.seconds:
            time.sleep(self.seconds * len(batch))
        return [vector(encoded.ids) for encoded in batch]

    def problem(self, given: Any, output: Any) -> str:
        return vectors.problem(output, DIMENSIONS)

    def warm_up(self) -> None:
        """It is awake."""

    def use_threads(self, threads: int) -> None:
        """Sleeping takes none."""

    def close(self) -> None:
        """It holds nothing."""


def vector(text: str) -> Vector:
    """A unit vector of 32 numbers, made from the SHA-256 of the text."""
    digest = hashlib.sha256(text.encode()).digest()
    vector = numpy.frombuffer(digest, dtype=numpy.uint8).astype(numpy.float32) - 127.5
    return vector / numpy.linalg.norm(vector)


def prepare(spec: Spec) -> None:
    """It takes nothing."""


def load(spec: Spec, threads: int) -> SleepPredictor:
    """Raises ModelError."""
    return SleepPredictor(spec)

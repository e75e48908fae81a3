"""A stand-in model that only sleeps: for trying the system without weights."""

import hashlib
import time
from collections.abc import Sequence

import numpy
from django.conf import settings

from workers.predictors import Encoded, Vector

DIMENSIONS = 32


class SleepPredictor:
    """Sleeps VELO_SLEEP_MS for each text. Its answer is a unit vector made from the text's hash:
    the same text always gets the same answer, and different texts different ones."""

    name = "sleep"
    version = "1.0.0"
    source = "workers.predictors.sleep"
    task = "embed"
    dimensions = DIMENSIONS
    engine_chosen = "none: it only sleeps"
    call_tokens = 0

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        return [Encoded(text, len(text), truncated=False) for text in texts]

    def predict(self, batch: Sequence[Encoded]) -> list[Vector]:
        if self.seconds:
            time.sleep(self.seconds * len(batch))
        return [vector(encoded.ids) for encoded in batch]

    def warm_up(self) -> None:
        """It is awake."""

    def use_threads(self, threads: int) -> None:
        """Sleeping takes none."""


def vector(text: str) -> Vector:
    digest = hashlib.sha256(text.encode()).digest()
    vector = numpy.frombuffer(digest, dtype=numpy.uint8).astype(numpy.float32) - 127.5
    return vector / numpy.linalg.norm(vector)


def load(threads: int) -> SleepPredictor:
    return SleepPredictor(settings.VELO_SLEEP_MS / 1000)

"""What a kind of model is to the rest of Velo: one small protocol, one file for each kind.

Only the files of this folder import torch or transformers.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy
from django.conf import settings
from numpy.typing import NDArray


class ModelError(Exception):
    """The model can't be loaded. The message names the folder, what is wrong and the cure."""


@dataclass(frozen=True)
class Encoded:
    """One text as the model reads it."""

    ids: Any  # what `predict` takes; its length is `tokens`
    tokens: int  # that the model reads, special ones included
    truncated: bool  # the text was longer, and the rest was left out


Vector = NDArray[numpy.float32]  # shape (dimensions,)


class Predictor(Protocol):
    """A model in memory."""

    name: str
    version: str  # made from the content of the model's files
    source: str  # where they were read
    task: str
    dimensions: int  # numbers in one answer
    engine_chosen: str  # what computes it here, and why
    call_tokens: int  # what a model call costs besides its tokens, in tokens

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """As many as texts, in their order; the texts are truncated to what the model takes."""

    def predict(self, batch: Sequence[Encoded]) -> Sequence[Vector]:
        """One model call: as many vectors as texts, in their order."""

    def warm_up(self) -> None:
        """Do now what a first call would otherwise have to wait for."""

    def use_threads(self, threads: int) -> None:
        """From now on compute with this many threads."""


def load(threads: int) -> Predictor:
    """The predictor that VELO_PREDICTOR names, read from disk, not yet warm.

    Raises ModelError.
    """
    # Torch's threads would spin for milliseconds after each call, in the way of the web process.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    module = import_module(f"{__name__}.{settings.VELO_PREDICTOR}")
    predictor: Predictor = module.load(threads)
    return predictor

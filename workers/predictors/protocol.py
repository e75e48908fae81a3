"""What a kind of model is to the rest of Velo: what it is told, what it gives, how it is asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy
from numpy.typing import NDArray


class ModelError(Exception):
    """The model can't be loaded. The message names the folder, what is wrong and the cure."""


# What is wrong with an input: codes that the API shows, for programs.
INVALID, NOT_A_STRING = "invalid_input", "not_a_string"
BLANK, TOO_LONG = "blank_input", "input_too_long"


class InputError(ValueError):
    """This kind of model doesn't take the input. The message says what it takes.

    `code`: INVALID, NOT_A_STRING, BLANK or TOO_LONG.
    """

    def __init__(self, message: str, code: str = INVALID) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Spec:
    """A model version, as a worker is told to load it."""

    name: str
    version: str
    kind: str  # a name in kinds.KINDS
    folder: Path | None = None  # with its files; None for kinds that need none
    digest: str = ""  # of the folder's content; keys what is kept of it on disk
    options: Mapping[str, Any] = field(default_factory=dict)  # the kind's own, see docs/kinds.md

    @property
    def label(self) -> str:
        """ "name@version"."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Encoded:
    """One input as the model reads it."""

    ids: Any  # what `predict` takes
    tokens: int  # that the model reads, special tokens included
    truncated: bool  # the input was longer, and the rest was left out


Vector = NDArray[numpy.float32]  # shape (dimensions,)


class Predictor(Protocol):
    """A model in memory."""

    spec: Spec
    kind: str
    name: str  # as in the spec
    version: str  # as in the spec
    source: str  # where it was read
    task: str
    dimensions: int  # numbers in one answer; 0 where it isn't a vector
    engine_chosen: str  # what computes it here, and why
    call_tokens: int  # what a model call costs besides its tokens, in tokens
    sample: Any  # an input that it takes, for trying it; None where none is known

    def encode(self, inputs: Sequence[Any]) -> list[Encoded]:
        """As many as inputs, in their order; texts are truncated to what the model takes.

        Raises InputError for what this kind doesn't take.
        """

    def predict(self, batch: Sequence[Encoded]) -> Sequence[Any]:
        """As many outputs as inputs, in their order: each a Vector, or what JSON can say."""

    def warm_up(self) -> None:
        """Do now what a first call would otherwise have to wait for."""

    def use_threads(self, threads: int) -> None:
        """From now on compute with this many threads."""

    def problem(self, given: Any, output: Any) -> str:
        """What is wrong with the form of an output for the input `given`; empty if nothing is."""

    def close(self) -> None:
        """Let go of what it holds, so that its memory comes back. It isn't used afterwards."""

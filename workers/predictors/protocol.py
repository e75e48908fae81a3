"""What a kind of model is to the rest of Velo: what it is told, what it gives, how it is asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy
from numpy.typing import NDArray


class ModelError(Exception):
    """The model can't be loaded. The message names the folder, what is wrong and the cure."""


NAMES = {str: "a string", bool: "true or false"}
# What is wrong with an input: codes that the API shows, for programs.
INVALID, NOT_A_STRING = "invalid_input", "not_a_string"
BLANK, TOO_LONG = "blank_input", "input_too_long"
TOO_MANY_TOKENS = "too_many_tokens"  # and truncation isn't allowed


class InputError(ValueError):
    """This kind of model doesn't take the input. The message says what it takes.

    `code`: INVALID, NOT_A_STRING, BLANK, TOO_LONG or TOO_MANY_TOKENS.
    """

    def __init__(self, message: str, code: str = INVALID) -> None:
        super().__init__(message)
        self.code = code


def check_parameters(parameters: Mapping[str, Any], known: Mapping[str, type], kind: str) -> None:
    """Raises InputError for a parameter that isn't known, or is of another type."""
    for name, value in parameters.items():
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise InputError(
                f"{name}: a model of the kind {kind} doesn't know it; it knows {listed}."
            )
        if type(value) is not known[name]:
            raise InputError(f"{name}: expected {NAMES[known[name]]}; got {value!r}.")


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


# How one request wants its input read, or its output made, where that differs from the version's
# own way: name to value. See docs/kinds.md.
Parameters = Mapping[str, Any]
NO_PARAMETERS: Parameters = MappingProxyType({})


@dataclass(frozen=True)
class Encoded:
    """One input as the model reads it."""

    ids: Any  # what `predict` takes
    tokens: int  # that the model reads, special tokens included
    truncated: bool  # the input was longer, and the rest was left out
    # Of the request, as far as `predict` has to know.
    parameters: Parameters = field(default_factory=lambda: NO_PARAMETERS)
    answer: Any = None  # where it takes no model call: then `predict` doesn't get this input


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
    # What else clients ask of it: max_tokens, dtype, labels, pooling, normalize, prompts, as far as
    # its kind has them.
    facts: Mapping[str, Any]
    call_tokens: int  # what a model call costs besides its tokens, in tokens
    sample: Any  # an input that it takes, for trying it; None where none is known

    def encode(
        self, inputs: Sequence[Any], parameters: Parameters = NO_PARAMETERS
    ) -> list[Encoded]:
        """As many as inputs, in their order; texts are truncated to what the model takes.

        Raises InputError for what this kind doesn't take, and for parameters that it doesn't know.
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

"""What computes a model's forward pass: one small protocol, and one file for each library. The
choice between them is a race.

The reference is torch in fp32 on the CPU. Any other engine serves only if what it makes of the
golden texts is nearly the same.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy
from numpy.typing import NDArray

from workers.predictors.protocol import ModelError

if TYPE_CHECKING:
    from workers.predictors.reading import Graph  # which imports this

Tokens = NDArray[numpy.int64]  # shape (texts, tokens)
Outputs = NDArray[numpy.float32]  # shape (texts, …)

# Short and long, several scripts, numbers, code: what a model meets.
GOLDEN = (
    "Hello, world!",
    "Тест!",
    "The quick brown fox jumps over the lazy dog.",
    "Съешь ещё этих мягких французских булок, да выпей чаю.",
    "How do I reset my password?",
    "Übung macht den Meister.",
    "你好,世界。今天天气怎么样?",
    "مرحبا بالعالم، كيف حالك؟",
    "1234567890",
    "SELECT * FROM users WHERE name = 'Robert';",
    "https://example.com/path?query=1#fragment",
    "A worker takes whatever waits as one batch, and each caller gets its own answer. " * 8,
)


class Engine(Protocol):
    """A model with its pooling or its head, compiled for a device."""

    name: str  # what it is, for people: library, number format, device
    dtype: str  # in which it multiplies: fp32, bf16 or int8
    multiple: int  # of how many tokens it wants its texts to be, for the fewest shapes

    def forward(self, *inputs: Tokens) -> Outputs:
        """Of ids, mask (1 where a token of the text is, 0 where it is padded) and, for a model that
        tells the texts of a pair apart, types."""

    def use_threads(self, threads: int) -> None:
        """From now on compute with this many threads."""

    def another(self, graph: "Graph") -> "Engine":
        """The same library, numbers and threads for another graph of the model."""


@dataclass(frozen=True)
class Candidate:
    """An engine that may serve, not yet made."""

    name: str
    make: Callable[[], Engine]
    is_reference: bool = False


@dataclass(frozen=True)
class Measure:
    """How near an engine's outputs have to be to the reference's."""

    name: str
    least: float
    least_quantised: float
    of: Callable[[Outputs, Outputs], float]  # found, wanted; NaN if a number isn't finite

    def of_quantised(self) -> "Measure":
        """The same for a model that a person has asked to be quantised."""
        return replace(self, least=self.least_quantised)


def _least_cosine(found: Outputs, wanted: Outputs) -> float:
    norms = numpy.linalg.norm(found, axis=1) * numpy.linalg.norm(wanted, axis=1)
    with numpy.errstate(invalid="ignore", divide="ignore"):
        return float(((found * wanted).sum(axis=1) / norms).min())


def _likeness(found: Outputs, wanted: Outputs) -> float:
    with numpy.errstate(invalid="ignore", divide="ignore"):
        apart = numpy.linalg.norm(found - wanted) / numpy.linalg.norm(wanted)
        return float(1 - apart)


# Of embeddings their direction counts, text by text.
DIRECTION = Measure("least cosine", 0.999, 0.98, _least_cosine)
# Of a head's outputs their size counts too, and a text may have a single output: all of them
# together are one vector. To be off by 4 % of its length is what a cosine of 0.999 allows, and 20 %
# what a cosine of 0.98 does.
LIKENESS = Measure("likeness", 0.96, 0.8, _likeness)


def wanted(reference: Engine, golden: tuple[Tokens, ...]) -> Outputs:
    """What the reference makes of the golden texts. Raises ModelError if it can't read them."""
    try:
        outputs = reference.forward(*golden)
    except Exception as error:
        raise ModelError(
            f"The model fails on a plain text: {type(error).__name__}: {error}. Its config.json, "
            "tokenizer and weights don't belong together, or Velo can't serve its architecture."
        ) from error
    if not numpy.isfinite(outputs).all():
        raise ModelError(
            "What the model makes of a plain text is infinite or not a number: its weights are "
            "broken, or their training failed. Take others."
        )
    return outputs

"""What computes an encoder's forward pass: one small protocol, one file for each library, and the
choice between them.

The reference is torch in fp32 on the CPU. Any other engine serves only if its embeddings of the
golden texts point the same way.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy
from django.conf import settings
from numpy.typing import NDArray

from workers.predictors import ModelError

log = logging.getLogger(__name__)

Tokens = NDArray[numpy.int64]  # shape (texts, tokens)
Vectors = NDArray[numpy.float32]  # shape (texts, dimensions)

LEAST_COSINE = 0.999  # of each golden text's embedding to the reference's
# Short and long, several scripts, numbers, code: what an encoder meets.
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
    """An encoder with its pooling, compiled for a device."""

    name: str  # what it is, for people: library, number format, device
    multiple: int  # of how many tokens it wants its texts to be, for the fewest shapes

    def forward(self, ids: Tokens, mask: Tokens) -> Vectors:
        """`mask` is 1 where `ids` holds a token of the text, 0 where it is padded."""

    def use_threads(self, threads: int) -> None:
        """From now on compute with this many threads."""


@dataclass(frozen=True)
class Candidate:
    """An engine that may serve, not yet made."""

    name: str
    make: Callable[[], Engine]


@dataclass(frozen=True)
class Choice:
    engine: Engine
    reason: str


def choose(candidates: Iterator[Candidate], reference: Engine, ids: Tokens, mask: Tokens) -> Choice:
    """The first candidate that agrees with the reference on the golden texts, given as tokens.

    Raises ModelError if none does.
    """
    wanted = reference.forward(ids, mask)
    refused = []
    for candidate in candidates:
        try:
            engine = candidate.make()
            least = 1.0 if engine is reference else _least_cosine(engine.forward(ids, mask), wanted)
        except Exception as error:  # noqa: BLE001 - each library fails in ways of its own
            refused.append(f"{candidate.name} failed: {type(error).__name__}: {error}")
            log.warning("%s", refused[-1])
            continue
        if least >= LEAST_COSINE:
            found = f"least cosine to torch fp32 on {len(wanted)} golden texts: {least:.6f}"
            if engine is reference:
                found = "it is the reference itself"
            return Choice(engine, "; ".join([f"{engine.name}: {found}", *refused]))
        refused.append(
            f"{candidate.name} refused: cosine {least:.6f} to torch fp32 on a golden text, "
            f"at least {LEAST_COSINE} is asked for"
        )
        log.warning("%s", refused[-1])
    raise ModelError(
        f"No engine serves this model with VELO_ENGINE={settings.VELO_ENGINE} "
        f"VELO_DTYPE={settings.VELO_DTYPE} VELO_DEVICE={settings.VELO_DEVICE}: "
        f"{'; '.join(refused) or 'there is no such combination'}. Set all three to auto."
    )


def _least_cosine(found: Vectors, wanted: Vectors) -> float:
    """Of the rows; NaN, which no bound admits, if a number isn't finite."""
    norms = numpy.linalg.norm(found, axis=1) * numpy.linalg.norm(wanted, axis=1)
    with numpy.errstate(invalid="ignore", divide="ignore"):
        return float(((found * wanted).sum(axis=1) / norms).min())

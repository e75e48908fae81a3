"""The registry of kinds of model: what each takes and gives, and how two of its answers compare.

The web process imports this too, so a kind imports its predictor, and torch, only on demand.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from django.conf import settings

from workers.predictors.inputs import (
    TEXTS_AT_MOST,
    Schema,
    check_anything,
    check_query_and_texts,
    check_text,
)
from workers.predictors.protocol import Predictor, Spec
from workers.values import comparing
from workers.values.blank import PATTERN


@dataclass(frozen=True)
class Kind:
    """A kind of model: the contract with its callers, and where its predictor is."""

    name: str  # also the module of its predictor, in this folder
    # Gives the input back. The schema is the version's own, if it has one. Raises InputError.
    check: Callable[[Any, Schema | None], Any]
    summary: str
    description: str
    takes: str  # a name in `schemas`
    gives: str
    inputs: Mapping[str, Any]  # examples by name
    output: Any  # an example
    # Of an expected and a found answer: where they differ by more than a tolerance, and how alike
    # they are. See `comparing`.
    difference: Callable[[Any, Any, float], str] = comparing.difference
    similarity: Callable[[Any, Any], float] = comparing.similarity

    def prepare(self, spec: Spec) -> None:
        """Import what loading this version takes."""
        self._module().prepare(spec)

    def load(self, spec: Spec, threads: int) -> Predictor:
        """The predictor of this version, read from disk, not yet warm. Raises ModelError, and
        whatever a broken folder makes the libraries raise."""
        predictor: Predictor = self._module().load(spec, threads)
        return predictor

    def _module(self) -> Any:
        # Torch's threads would spin for milliseconds after each call, in the web process's way.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        return import_module(f"{__package__}.{self.name}")


_NUMBER = {"type": "number", "format": "float"}
_WHOLE = {"type": "integer", "minimum": 0}


def _objects(**properties: Schema) -> dict[str, Any]:
    item = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "array", "items": item}


def schemas() -> dict[str, dict[str, Any]]:
    """The components of the Swagger schema, by name."""
    text = {
        "type": "string",
        "minLength": 1,
        "maxLength": settings.VELO_MAX_INPUT_CHARS,
        "pattern": PATTERN,
    }
    return {
        "Text": text,
        "Embedding": {"type": "array", "items": _NUMBER, "minItems": 1},
        "Scores": _objects(label={"type": "string"}, score=_NUMBER),
        "QueryAndTexts": {
            "type": "object",
            "properties": {
                "query": text,
                "texts": {
                    "type": "array",
                    "items": text,
                    "minItems": 1,
                    "maxItems": TEXTS_AT_MOST,
                },
            },
            "required": ["query", "texts"],
            "additionalProperties": False,
            "description": f"Together at most {settings.VELO_MAX_INPUT_CHARS} characters.",
        },
        "Ranking": _objects(index=_WHOLE, score=_NUMBER),
        "Names": _objects(
            label={"type": "string"},
            score=_NUMBER,
            start=_WHOLE,
            end=_WHOLE,
            text={"type": "string"},
        ),
        "Sparse": _objects(index=_WHOLE, value=_NUMBER),
        "Anything": {"description": "Any JSON; the version's own schema says more, if it has one."},
    }


_TRUNCATED = (
    "A text longer than the model takes is truncated, and the answer says so in `X-Velo-Truncated`."
)
EMBED = Kind(
    name="embed",
    check=check_text,
    summary="Embed a text",
    description=f"Send a bare JSON string; get its embedding, an array of floats. {_TRUNCATED}",
    takes="Text",
    gives="Embedding",
    inputs={"Russian": "Тест!", "English": "Hello, world"},
    output=[0.0123, -0.0456],
)
_REGISTERED = (
    EMBED,
    replace(EMBED, name="sleep"),
    Kind(
        name="classify",
        check=check_text,
        summary="Classify a text",
        description=(
            f"Send a bare JSON string; get a score for every label, the highest first. {_TRUNCATED}"
        ),
        takes="Text",
        gives="Scores",
        inputs={"A review": "I like it."},
        output=[{"label": "positive", "score": 0.98}, {"label": "negative", "score": 0.02}],
    ),
    Kind(
        name="rerank",
        check=check_query_and_texts,
        summary="Rank texts by a query",
        description=(
            "Send a query and texts; get the texts' places in your array with their scores, the "
            f"highest first. At most {TEXTS_AT_MOST} texts. {_TRUNCATED}"
        ),
        takes="QueryAndTexts",
        gives="Ranking",
        inputs={
            "A question": {
                "query": "How long is a day?",
                "texts": ["A year has 365 days.", "A day has 24 hours."],
            }
        },
        output=[{"index": 1, "score": 0.97}, {"index": 0, "score": 0.11}],
    ),
    Kind(
        name="ner",
        check=check_text,
        summary="Find the names in a text",
        description=(
            "Send a bare JSON string; get the names in it, each with its label, score, and the "
            f"characters from `start` to before `end`. {_TRUNCATED}"
        ),
        takes="Text",
        gives="Names",
        inputs={"A sentence": "Ada Lovelace was born in London."},
        output=[
            {"label": "PER", "score": 0.99, "start": 0, "end": 12, "text": "Ada Lovelace"},
            {"label": "LOC", "score": 0.99, "start": 25, "end": 31, "text": "London"},
        ],
    ),
    Kind(
        name="sparse",
        check=check_text,
        summary="Embed a text into the vocabulary",
        description=(
            "Send a bare JSON string; get the indices of the model's vocabulary that have a weight "
            f"above 0, in rising order. {_TRUNCATED}"
        ),
        takes="Text",
        gives="Sparse",
        inputs={"A sentence": "Workers take texts in batches."},
        output=[{"index": 3793, "value": 1.21}, {"index": 14108, "value": 0.87}],
        difference=comparing.sparse_difference,
        similarity=comparing.sparse_similarity,
    ),
    Kind(
        name="custom",
        check=check_anything,
        summary="Ask a model of its own kind",
        description="Send what the model takes: any JSON, or what its version's schema allows.",
        takes="Anything",
        gives="Anything",
        inputs={"An object": {"question": "How long is a day?"}},
        output={"answer": "24 hours"},
    ),
)
KINDS: dict[str, Kind] = {kind.name: kind for kind in _REGISTERED}
EMBEDDING_KINDS = frozenset({"embed", "sleep"})  # whose answer is a vector

"""A request for embeddings, read and checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inference.choice import Target
from inference.errors import TokenIds
from inference.protocols import fields
from workers.predictors import EMBEDDING_KINDS

FLOAT, BASE64 = "float", "base64"


@dataclass(frozen=True)
class Question:
    """What is to be embedded, by which model, and how the vectors come back."""

    texts: list[Any]  # each is checked with the model's kind
    target: Target
    encoding: str  # FLOAT or BASE64
    dimensions: int | None  # None: all


def question(body: Any, key: str | None = None) -> Question:
    """Of a request's body. Fields that aren't known are ignored, and null is as if a field
    weren't there. `key`: of X-Request-Key. Raises InvalidInput, EmptyBatch, TokenIds and
    TooManyInputs."""
    if not isinstance(body, Mapping):
        raise fields.not_an_object(body, '{"model": "name", "input": "Hello"}')
    encoding = body.get("encoding_format")
    if encoding not in (None, FLOAT, BASE64):
        raise fields.wrong("encoding_format", encoding, f'"{FLOAT}" or "{BASE64}"')
    return Question(
        _texts(body.get("input")),
        fields.target(body.get("model"), EMBEDDING_KINDS, key),
        encoding or FLOAT,
        fields.dimensions(body),
    )


def _texts(given: Any) -> list[Any]:
    if isinstance(given, str):
        return [given]
    many = fields.array("input", given, "a string or an array of strings")
    if any(isinstance(one, int | float | list) for one in many):
        raise TokenIds(param="input")
    return many

"""A request for embeddings, read and checked."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from inference.choice import Target
from inference.errors import TokenIds
from inference.protocols import fields
from inference.protocols.vectors import DTYPES
from workers.predictors import EMBEDDING_KINDS

FLOAT, BASE64 = "float", "base64"
# What a text is for, as Voyage, Cohere and others name it.
INPUT_TYPES = {
    "query": "query",
    "search_query": "query",
    "document": "document",
    "search_document": "document",
    "passage": "document",
}


@dataclass(frozen=True)
class Question:
    """What is to be embedded, by which model, and how the vectors come back."""

    texts: list[Any]  # each is checked with the model's kind
    target: Target
    encoding: str  # FLOAT or BASE64
    dimensions: int | None  # None: all
    dtype: str  # of vectors.DTYPES
    parameters: Mapping[str, Any]  # of the request, for the model


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
        fields.dimensions(body) or fields.dimensions(body, "output_dimension"),
        _one_of("output_dtype", body, DTYPES) or FLOAT,
        _parameters(body),
    )


def _parameters(body: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if input_type := _one_of("input_type", body, INPUT_TYPES):
        found["input_type"] = INPUT_TYPES[input_type]
    prompt = body.get("prompt_name")
    if prompt is not None:
        if not isinstance(prompt, str):
            raise fields.wrong("prompt_name", prompt, "a string")
        found["prompt_name"] = prompt
    if fields.flag(body, "truncation") is False:
        found["truncate"] = False
    return found


def _one_of(name: str, body: Mapping[str, Any], known: Iterable[str]) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or value not in known:
        raise fields.wrong(name, value, f"one of {', '.join(known)}")
    return value


def _texts(given: Any) -> list[Any]:
    if isinstance(given, str):
        return [given]
    many = fields.array("input", given, "a string or an array of strings")
    if any(isinstance(one, int | float | list) for one in many):
        raise TokenIds(param="input")
    return many

"""What each kind of model takes and gives: the check of its input, and both in JSON Schema."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import orjson
from django.conf import settings
from jsonschema import Draft202012Validator, exceptions
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing import Registry

from inference.blank import PATTERN, SOMETHING
from inference.errors import BlankInput, InputTooLong, InvalidInput, NotAString
from workers.models.versions import Kind

TEXTS_AT_MOST = 256  # in one request to rerank
ERRORS_COMPARED = 20  # of which the most informative error is shown
SHOWN_CHARS = 300  # of what a schema has against an input

JSON_TYPES = {
    str: "a string",
    dict: "an object",
    list: "an array",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    type(None): "null",
}
Schema = Mapping[str, Any]


def check_text(data: Any) -> str:
    """The request's text. Raises NotAString, InputTooLong and BlankInput."""
    if not isinstance(data, str):
        got = JSON_TYPES[type(data)]
        raise NotAString(f'Expected a JSON string, for example "Hello!"; got {got}.')
    _check_length(len(data))
    if not SOMETHING.search(data):
        raise BlankInput
    return data


def check_query_and_texts(data: Any) -> dict[str, Any]:
    """A query and the texts to rank. Raises InvalidInput and InputTooLong."""
    if not isinstance(data, dict):
        raise InvalidInput(
            f'Expected an object {{"query": "…", "texts": ["…", …]}}; got {JSON_TYPES[type(data)]}.'
        )
    if further := data.keys() - {"query", "texts"}:
        raise InvalidInput(f"{min(further)[:40]}: unknown. Expected query and texts, and no more.")
    query, texts = _check_part("query", data.get("query")), data.get("texts")
    if not isinstance(texts, list):
        raise InvalidInput(f"texts: expected an array of strings; got {JSON_TYPES[type(texts)]}.")
    if not 1 <= len(texts) <= TEXTS_AT_MOST:
        raise InvalidInput(f"texts: expected 1 to {TEXTS_AT_MOST} of them; got {len(texts)}.")
    for number, text in enumerate(texts):
        _check_part(f"texts[{number}]", text)
    _check_length(len(query) + sum(map(len, texts)))
    return data


def check_anything(data: Any, schema: Schema | None) -> Any:
    """Any JSON, or what the version's own schema allows. Raises InvalidInput."""
    if schema is None:
        return data
    try:
        found = islice(_validator(orjson.dumps(schema)).iter_errors(data), ERRORS_COMPARED)
        worst = exceptions.best_match(found)
    except RecursionError:
        raise InvalidInput("The input is nested too deeply. Send a flatter one.") from None
    if worst is not None:
        where = worst.json_path.removeprefix("$").removeprefix(".")
        said = worst.message
        if len(said) > SHOWN_CHARS:
            said = f"{said[:SHOWN_CHARS]}…"
        raise InvalidInput(f"{where or 'The input'}: {said}. /docs shows what the model takes.")
    return data


@lru_cache(maxsize=256)
def _validator(schema: bytes) -> Validator:
    read = orjson.loads(schema)
    # With a registry of its own, or it would fetch whatever address a "$ref" names.
    return validator_for(read, Draft202012Validator)(read, registry=Registry())


def _check_part(name: str, text: Any) -> str:
    if not isinstance(text, str):
        raise InvalidInput(
            f"{name}: expected a string with something in it; got {JSON_TYPES[type(text)]}."
        )
    if not SOMETHING.search(text):
        raise InvalidInput(f"{name}: expected a string with something in it; got a blank one.")
    return text


def _check_length(characters: int) -> None:
    limit = settings.VELO_MAX_INPUT_CHARS
    if characters > limit:
        raise InputTooLong(
            f"The text has {characters} characters; at most {limit} are taken. "
            "Split it, or raise VELO_MAX_INPUT_CHARS on the server."
        )


@dataclass(frozen=True)
class Contract:
    """Between the callers and the models of a kind."""

    check: Callable[[Any, Schema | None], Any]  # gives the input, if it is as it must be
    summary: str
    description: str
    takes: str  # a name in SCHEMAS
    gives: str
    inputs: Mapping[str, Any]  # examples by name
    output: Any  # an example


def _text(data: Any, schema: Schema | None) -> str:
    return check_text(data)


def _query_and_texts(data: Any, schema: Schema | None) -> dict[str, Any]:
    return check_query_and_texts(data)


_STRING = {
    "type": "string",
    "minLength": 1,
    "maxLength": settings.VELO_MAX_INPUT_CHARS,
    "pattern": PATTERN,
}
_NUMBER = {"type": "number", "format": "float"}
_WHOLE = {"type": "integer", "minimum": 0}


def _objects(**properties: Schema) -> dict[str, Any]:
    item = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "array", "items": item}


# The components of the Swagger schema.
SCHEMAS: dict[str, dict[str, Any]] = {
    "Text": _STRING,
    "Embedding": {"type": "array", "items": _NUMBER, "minItems": 1},
    "Scores": _objects(label={"type": "string"}, score=_NUMBER),
    "QueryAndTexts": {
        "type": "object",
        "properties": {
            "query": _STRING,
            "texts": {
                "type": "array",
                "items": _STRING,
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
        label={"type": "string"}, score=_NUMBER, start=_WHOLE, end=_WHOLE, text={"type": "string"}
    ),
    "Anything": {"description": "Any JSON; the version's own schema says more, if it has one."},
}
_TRUNCATED = (
    "A text longer than the model takes is truncated, and the answer says so in `X-Velo-Truncated`."
)
_EMBED = Contract(
    check=_text,
    summary="Embed a text",
    description=f"Send a bare JSON string; get its embedding, an array of floats. {_TRUNCATED}",
    takes="Text",
    gives="Embedding",
    inputs={"Russian": "Тест!", "English": "Hello, world"},
    output=[0.0123, -0.0456],
)
CONTRACTS: dict[str, Contract] = {
    Kind.EMBED: _EMBED,
    Kind.SLEEP: _EMBED,
    Kind.CLASSIFY: Contract(
        check=_text,
        summary="Classify a text",
        description=(
            f"Send a bare JSON string; get a score for every label, the highest first. {_TRUNCATED}"
        ),
        takes="Text",
        gives="Scores",
        inputs={"A review": "I like it."},
        output=[{"label": "positive", "score": 0.98}, {"label": "negative", "score": 0.02}],
    ),
    Kind.RERANK: Contract(
        check=_query_and_texts,
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
    Kind.NER: Contract(
        check=_text,
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
    Kind.CUSTOM: Contract(
        check=check_anything,
        summary="Ask a model of its own kind",
        description="Send what the model takes: any JSON, or what its version's schema allows.",
        takes="Anything",
        gives="Anything",
        inputs={"An object": {"question": "How long is a day?"}},
        output={"answer": "24 hours"},
    ),
}

"""The checks of inputs, before they are handed to a model: nothing here imports torch."""

from collections.abc import Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

import orjson
from django.conf import settings
from jsonschema import Draft202012Validator, exceptions
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing import Registry

from workers.predictors.protocol import BLANK, NOT_A_STRING, TOO_LONG, InputError
from workers.values.blank import SOMETHING

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


def check_text(data: Any, schema: Schema | None = None) -> str:
    """The request's text. Raises InputError."""
    if not isinstance(data, str):
        got = JSON_TYPES[type(data)]
        raise InputError(f'Expected a JSON string, for example "Hello!"; got {got}.', NOT_A_STRING)
    _check_length(len(data))
    if not SOMETHING.search(data):
        raise InputError(
            "The string is empty or holds only white space, control characters and characters that "
            "are never shown. Send some text.",
            BLANK,
        )
    return data


def check_query_and_texts(data: Any, schema: Schema | None = None) -> dict[str, Any]:
    """A query and the texts to rank. Raises InputError."""
    if not isinstance(data, dict):
        raise InputError(
            f'Expected an object {{"query": "…", "texts": ["…", …]}}; got {JSON_TYPES[type(data)]}.'
        )
    if further := data.keys() - {"query", "texts"}:
        raise InputError(f"{min(further)[:40]}: unknown. Expected query and texts, and no more.")
    query, texts = _check_part("query", data.get("query")), data.get("texts")
    if not isinstance(texts, list):
        raise InputError(f"texts: expected an array of strings; got {JSON_TYPES[type(texts)]}.")
    if not 1 <= len(texts) <= TEXTS_AT_MOST:
        raise InputError(f"texts: expected 1 to {TEXTS_AT_MOST} of them; got {len(texts)}.")
    for number, text in enumerate(texts):
        _check_part(f"texts[{number}]", text)
    _check_length(len(query) + sum(map(len, texts)))
    return data


def check_anything(data: Any, schema: Schema | None) -> Any:
    """Any JSON, or what the version's own schema allows. Raises InputError."""
    if schema is None:
        return data
    try:
        found = islice(_validator(orjson.dumps(schema)).iter_errors(data), ERRORS_COMPARED)
        worst = exceptions.best_match(found)
    except RecursionError:
        raise InputError("The input is nested too deeply. Send a flatter one.") from None
    if worst is not None:
        where = worst.json_path.removeprefix("$").removeprefix(".")
        said = worst.message
        if len(said) > SHOWN_CHARS:
            said = f"{said[:SHOWN_CHARS]}…"
        raise InputError(f"{where or 'The input'}: {said}. /docs shows what the model takes.")
    return data


@lru_cache(maxsize=256)
def _validator(schema: bytes) -> Validator:
    read = orjson.loads(schema)
    # With a registry of its own, or it would fetch whatever address a "$ref" names.
    return validator_for(read, Draft202012Validator)(read, registry=Registry())


def _check_part(name: str, text: Any) -> str:
    if not isinstance(text, str):
        raise InputError(
            f"{name}: expected a string with something in it; got {JSON_TYPES[type(text)]}."
        )
    if not SOMETHING.search(text):
        raise InputError(f"{name}: expected a string with something in it; got a blank one.")
    return text


def _check_length(characters: int) -> None:
    limit = settings.VELO_MAX_INPUT_CHARS
    if characters > limit:
        raise InputError(
            f"The text has {characters} characters; at most {limit} are taken. "
            "Split it, or raise VELO_MAX_INPUT_CHARS on the server.",
            TOO_LONG,
        )

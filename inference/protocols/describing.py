"""Pieces of the Swagger schema that the foreign protocols share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from drf_spectacular.utils import OpenApiExample, OpenApiResponse

from inference import errors
from inference.protocols.forms import Form, as_openai, as_tei
from inference.schema import ASKED
from workers.values.blank import PATTERN

JSON = "application/json"


def object_of(**properties: Any) -> dict[str, Any]:
    """The schema of an object that has all of these."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def one_of(*values: str) -> dict[str, Any]:
    """The schema of one of these strings."""
    return {"type": "string", "enum": list(values)}


def list_of(items: Any, most: int) -> dict[str, Any]:
    """The schema of an array of 1 to `most` items."""
    return {"type": "array", "items": items, "minItems": 1, "maxItems": most}


COUNT = {"type": "integer", "minimum": 0}
TEXT = {
    "type": "string",
    "minLength": 1,
    "maxLength": settings.VELO_MAX_INPUT_CHARS,
    "pattern": PATTERN,
}
MODEL = {
    "type": "string",
    "nullable": True,
    "description": "`name` or `name@version`. Without it: the default model of this kind.",
}
_SENTENCE = {"type": "string", "description": "What happened and what to do."}


@dataclass(frozen=True)
class Errors:
    """The form of a protocol's errors."""

    said: Form
    schema: Mapping[str, Any]


OPENAI = Errors(
    as_openai,
    object_of(
        error=object_of(
            message=_SENTENCE,
            type={"type": "string"},
            param={"type": "string", "nullable": True, "description": "The field that is wrong."},
            code={"type": "string", "description": "Stable, for programs."},
        )
    ),
)
TEI = Errors(
    as_tei,
    object_of(
        error=_SENTENCE,
        error_type=one_of("Unhealthy", "Backend", "Overloaded", "Validation", "Empty"),
    ),
)
Failures = dict[tuple[int, str], OpenApiResponse]


def answered(name: str, value: Any) -> OpenApiExample:
    """An example of a 200."""
    return OpenApiExample(name, value=value, response_only=True, status_codes=[200])


def asked(name: str, value: Any) -> OpenApiExample:
    """An example of a request."""
    return OpenApiExample(name, value=value, request_only=True)


def failures_of_asking(form: Errors, *more: type[errors.APIError]) -> Failures:
    """Of a request to a model, which may have many inputs, and `more`; see `failures`."""
    return failures(
        form,
        *ASKED,
        errors.EmptyBatch,
        *more,
        errors.WrongKind,
        errors.TooManyInputs,
        errors.UnknownModel,
        errors.UnknownVersion,
        errors.NotServing,
    )


def failures(form: Errors, *kinds: type[errors.APIError]) -> Failures:
    """Responses by status, each with an example for every kind of error that has it."""
    found: dict[int, list[OpenApiExample]] = {}
    titles: dict[int, list[str]] = {}
    for kind in kinds:
        said = form.said(kind().failure)
        example = OpenApiExample(
            kind.default_code, value=said.body, response_only=True, status_codes=[said.status]
        )
        found.setdefault(said.status, []).append(example)
        titles.setdefault(said.status, []).append(kind.title)
    return {
        (status, JSON): OpenApiResponse(
            form.schema, description=" / ".join(titles[status]), examples=examples
        )
        for status, examples in found.items()
    }


def either(*several: Failures) -> Failures:
    """Where the body decides in which form an error is said."""
    found: dict[tuple[int, str], list[OpenApiResponse]] = {}
    for one in several:
        for key, response in one.items():
            found.setdefault(key, []).append(response)
    return {
        key: OpenApiResponse(
            {"anyOf": [one.response for one in responses]},
            description=responses[0].description,
            examples=[example for one in responses for example in one.examples],
        )
        for key, responses in found.items()
    }

"""Pieces of the Swagger schema that the foreign protocols share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from drf_spectacular.utils import OpenApiExample, OpenApiResponse

from inference import errors
from inference.protocols.openai.errors import said
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


@dataclass(frozen=True)
class ErrorForm:
    """How a protocol says errors."""

    said: Callable[[errors.Failure], tuple[int, Mapping[str, str], Mapping[str, Any]]]
    schema: Mapping[str, Any]  # of the body


OPENAI = ErrorForm(
    said,
    object_of(
        error=object_of(
            message={"type": "string", "description": "What happened and what to do."},
            type={"type": "string"},
            param={"type": "string", "nullable": True, "description": "The field that is wrong."},
            code={"type": "string", "description": "Stable, for programs."},
        )
    ),
)


def answered(name: str, value: Any) -> OpenApiExample:
    """An example of a 200."""
    return OpenApiExample(name, value=value, response_only=True, status_codes=[200])


def asked(name: str, value: Any) -> OpenApiExample:
    """An example of a request."""
    return OpenApiExample(name, value=value, request_only=True)


def failures_of_asking(
    *more: type[errors.APIError], form: ErrorForm = OPENAI
) -> dict[tuple[int, str], OpenApiResponse]:
    """Of a request to a model, which may have many inputs, and `more`; see `failures`."""
    return failures(
        *ASKED,
        *more,
        errors.WrongKind,
        errors.TooManyInputs,
        errors.UnknownModel,
        errors.UnknownVersion,
        errors.NotServing,
        form=form,
    )


def failures(
    *kinds: type[errors.APIError], form: ErrorForm = OPENAI
) -> dict[tuple[int, str], OpenApiResponse]:
    """Responses by status, each with an example for every kind of error that has it."""
    found: dict[int, list[OpenApiExample]] = {}
    titles: dict[int, list[str]] = {}
    for kind in kinds:
        status, _, body = form.said(kind().failure)
        example = OpenApiExample(
            kind.default_code, value=body, response_only=True, status_codes=[status]
        )
        found.setdefault(status, []).append(example)
        titles.setdefault(status, []).append(kind.title)
    return {
        (status, JSON): OpenApiResponse(
            form.schema, description=" / ".join(titles[status]), examples=examples
        )
        for status, examples in found.items()
    }

"""The Swagger schema of OpenAI's endpoints."""

from django.conf import settings
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema

from inference import errors
from inference.protocols.describing import (
    COUNT,
    JSON,
    MODEL,
    OPENAI,
    TEXT,
    answered,
    asked,
    failures,
    failures_of_asking,
    list_of,
    object_of,
    one_of,
)
from inference.protocols.openai.questions import INPUT_TYPES
from inference.protocols.vectors import DTYPES
from inference.schema import KEY, TIMEOUT, of_answer

TAGS = ["OpenAI"]

_REQUEST = {
    "type": "object",
    "properties": {
        "input": {"anyOf": [TEXT, list_of(TEXT, settings.VELO_MAX_INPUTS)]},
        "model": MODEL,
        "encoding_format": {
            "type": "string",
            "enum": ["float", "base64", None],
            "nullable": True,
            "description": "`base64`: of the numbers as little-endian float32.",
        },
        "dimensions": {
            "type": "integer",
            "minimum": 0,
            "nullable": True,
            "description": "The length of a shortened vector. 0: all numbers.",
        },
        "output_dtype": {
            "type": "string",
            "enum": [*DTYPES, None],
            "nullable": True,
            "description": "`int8`, `uint8`: numbers times 127. `binary`, `ubinary`: a bit each.",
        },
        "input_type": {
            "type": "string",
            "enum": [*INPUT_TYPES, None],
            "nullable": True,
            "description": "Chooses the model's prompt for it, if it has one.",
        },
        "prompt_name": {
            "type": "string",
            "nullable": True,
            "description": "The name of a prompt of the model.",
        },
        "truncation": {
            "type": "boolean",
            "nullable": True,
            "description": "false: a text that is too long is an error. Default: true.",
        },
    },
    "required": ["input"],
}
_VECTOR = {"anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string"}]}
_EMBEDDING = object_of(object=one_of("embedding"), index=COUNT, embedding=_VECTOR)
_EMBEDDINGS = object_of(
    object=one_of("list"),
    data={"type": "array", "items": _EMBEDDING},
    model={"type": "string"},
    usage=object_of(prompt_tokens=COUNT, total_tokens=COUNT),
)
_MODEL = object_of(
    id={"type": "string"}, object=one_of("model"), created=COUNT, owned_by={"type": "string"}
)
_EMBEDDED = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.0123, -0.0456]}],
    "model": "all-MiniLM-L6-v2",
    "usage": {"prompt_tokens": 3, "total_tokens": 3},
}
_LISTED = {
    "id": "all-MiniLM-L6-v2",
    "object": "model",
    "created": 1764000000,
    "owned_by": "velo",
}

embeddings = extend_schema(
    tags=TAGS,
    summary="Embed one text or many",
    description=(
        f"Up to {settings.VELO_MAX_INPUTS} texts; the answer has their order. A blank or too long "
        "text fails the request, and the error names it: `input[17]`. Fields that aren't known are "
        "ignored."
    ),
    parameters=[TIMEOUT, KEY, *of_answer()],
    request={JSON: _REQUEST},
    responses={
        (200, JSON): OpenApiResponse(_EMBEDDINGS, examples=[answered("One text", _EMBEDDED)]),
        **failures_of_asking(OPENAI, errors.TokenIds, errors.TooManyTokens),
    },
    examples=[
        asked("Two texts", {"input": ["Hello, world", "Тест!"]}),
        asked("One text", {"input": "Hello, world"}),
    ],
)
models = extend_schema(
    operation_id="openai_models",
    tags=TAGS,
    summary="The models",
    responses={
        (200, JSON): OpenApiResponse(
            object_of(object=one_of("list"), data={"type": "array", "items": _MODEL}),
            examples=[answered("One model", {"object": "list", "data": [_LISTED]})],
        ),
        **failures(OPENAI, errors.QueueAway),
    },
)
model = extend_schema(
    operation_id="openai_model",
    tags=TAGS,
    summary="One model",
    parameters=[
        OpenApiParameter(
            "name", str, OpenApiParameter.PATH, description="`name` or `name@version`."
        )
    ],
    responses={
        (200, JSON): OpenApiResponse(_MODEL, examples=[answered("A model", _LISTED)]),
        **failures(OPENAI, errors.UnknownModel, errors.QueueAway),
    },
)

"""The Swagger schema of the protocol's endpoints."""

from typing import Any

from django.conf import settings
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema

from inference import errors
from inference.protocols.describing import (
    COUNT,
    JSON,
    TEXT,
    Errors,
    answered,
    asked,
    failures,
    failures_of_asking,
    list_of,
    object_of,
    one_of,
)
from inference.protocols.forms import as_oip
from inference.protocols.oip.body import BINARY, JSON_LENGTH
from inference.schema import KEY, TIMEOUT, of_answer

TAGS = ["Open Inference Protocol v2"]

ERRORS = Errors(
    as_oip, object_of(error={"type": "string", "description": "What happened and what to do."})
)
MODEL = OpenApiParameter(
    "model", str, OpenApiParameter.PATH, description="`name` or `name@version`."
)
NAME = OpenApiParameter("model", str, OpenApiParameter.PATH, description="The model's name.")
VERSION = OpenApiParameter(
    "version", str, OpenApiParameter.PATH, description="No other version answers instead."
)
LENGTH = {"type": "integer", "minimum": 1}
_ROW = {"type": "array", "items": TEXT, "minItems": 1, "maxItems": 1}


def _parameters(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "nullable": True, "properties": properties}


_FLAG = {"type": "boolean", "nullable": True}
_INPUT = {
    "type": "object",
    "properties": {
        "name": one_of("text", "query", "texts"),
        "datatype": one_of("BYTES"),
        "shape": {
            "type": "array",
            "items": LENGTH,
            "minItems": 1,
            "maxItems": 2,
            "description": "`[n]` or `[n, 1]`: n is the number of elements.",
        },
        "data": {
            "type": "array",
            "items": {"anyOf": [TEXT, _ROW]},
            "minItems": 1,
            "maxItems": settings.VELO_MAX_INPUTS,
        },
        "parameters": _parameters(
            binary_data_size={
                **COUNT,
                "nullable": True,
                "description": "Bytes of the tensor behind the JSON, in place of `data`.",
            }
        ),
    },
    "required": ["name", "datatype", "shape"],
}
_WANTED = {
    "type": "object",
    "properties": {
        "name": one_of("embedding", "scores", "label", "score"),
        "parameters": _parameters(binary_data=_FLAG),
    },
    "required": ["name"],
}
_REQUEST = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "nullable": True, "description": "Comes back."},
        "inputs": list_of(_INPUT, 2),
        "outputs": {
            "type": "array",
            "items": _WANTED,
            "nullable": True,
            "description": "The tensors that come back. Without it: all.",
        },
        "parameters": _parameters(binary_data_output=_FLAG),
    },
    "required": ["inputs"],
}
_NUMBERS = {"type": "array", "items": COUNT}
_OUTPUT = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "datatype": one_of("FP32", "BYTES"),
        "shape": _NUMBERS,
        "data": {
            "type": "array",
            "items": {"anyOf": [{"type": "number", "nullable": True}, {"type": "string"}]},
            "description": "Row by row.",
        },
        "parameters": {
            "type": "object",
            "properties": {
                "labels": {
                    "type": "array",
                    "items": {"type": "string"},
                    "description": "The label of each column of `scores`.",
                },
                "binary_data_size": COUNT,
            },
        },
    },
    "required": ["name", "datatype", "shape"],
}
_ANSWER = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "outputs": {"type": "array", "items": _OUTPUT},
    },
    "required": ["model_name", "model_version", "outputs"],
}
_TENSORS = {
    "type": "array",
    "items": object_of(
        name={"type": "string"},
        datatype=one_of("FP32", "BYTES"),
        shape={"type": "array", "items": {"type": "integer", "minimum": -1}},
    ),
}


def _bytes(name: str, *texts: str) -> dict[str, Any]:
    return {"name": name, "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}


TEXTS = {"inputs": [_bytes("text", "Hello, world", "Тест!")]}
RANKED = {
    "inputs": [
        _bytes("query", "How long is a day?"),
        _bytes("texts", "A year has 365 days.", "A day has 24 hours."),
    ]
}
_ANSWERED = {
    "model_name": "all-MiniLM-L6-v2",
    "model_version": "832723122d07",
    "outputs": [
        {"name": "embedding", "datatype": "FP32", "shape": [1, 2], "data": [0.0123, -0.0456]}
    ],
}
_METADATA = {
    "name": "all-MiniLM-L6-v2",
    "versions": ["832723122d07"],
    "platform": "velo_embed",
    "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
    "outputs": [{"name": "embedding", "datatype": "FP32", "shape": [-1, 384]}],
}


def _got(summary: str, value: Any, content: Any, *kinds: type[errors.APIError], **more: Any) -> Any:
    """A GET that answers `value`, or one of these errors."""
    return extend_schema(
        tags=TAGS,
        summary=summary,
        responses={
            (200, JSON): OpenApiResponse(content, examples=[answered("Example", value)]),
            **failures(ERRORS, *kinds),
        },
        **more,
    )


_UNREADY = errors.NoWorker, errors.Suspended, errors.QueueAway
_FLAGGED = object_of(name={"type": "string"}, ready={"type": "boolean"})
_DESCRIBED = object_of(
    name={"type": "string"},
    versions={"type": "array", "items": {"type": "string"}},
    platform={"type": "string"},
    inputs=_TENSORS,
    outputs=_TENSORS,
)
server = _got(
    "The server",
    {"name": "velo", "version": "0.1.0", "extensions": ["binary_tensor_data"]},
    object_of(
        name={"type": "string"},
        version={"type": "string"},
        extensions={"type": "array", "items": {"type": "string"}},
    ),
    operation_id="oip_server",
)
live = _got(
    "The web process answers",
    {"live": True},
    object_of(live={"type": "boolean"}),
    operation_id="oip_live",
)
ready = _got(
    "A request to the default model would be answered now",
    {"ready": True},
    object_of(ready={"type": "boolean"}),
    *_UNREADY,
    operation_id="oip_ready",
)


def _metadata(operation: str, summary: str, *parameters: OpenApiParameter) -> Any:
    return _got(
        summary,
        _METADATA,
        _DESCRIBED,
        errors.WrongKind,
        errors.UnknownModel,
        errors.UnknownVersion,
        errors.QueueAway,
        operation_id=operation,
        description="-1 is a dimension of any length.",
        parameters=list(parameters),
    )


def _model_ready(operation: str, summary: str, *parameters: OpenApiParameter) -> Any:
    return _got(
        summary,
        {"name": "all-MiniLM-L6-v2", "ready": True},
        _FLAGGED,
        errors.UnknownModel,
        errors.UnknownVersion,
        errors.NotServing,
        *_UNREADY,
        operation_id=operation,
        parameters=list(parameters),
    )


def _infer(operation: str, summary: str, *parameters: OpenApiParameter) -> Any:
    return extend_schema(
        operation_id=operation,
        tags=TAGS,
        summary=summary,
        description=(
            "Models of the kinds embed and sleep take `text` and give `embedding`; classify takes "
            "`text` and gives `scores` and `label`; rerank takes `query` and `texts` and gives "
            f"`score` in the order of `texts`. Up to {settings.VELO_MAX_INPUTS} texts. A blank or "
            "too long text fails the request, and the error names it: `text[17]`. The columns of "
            "`scores` are named in its `parameters.labels`. Tensors may also be raw bytes behind "
            f"the JSON: the extension `binary_tensor_data`. The header `{JSON_LENGTH}` then says "
            "where the JSON ends, in bytes."
        ),
        parameters=[
            *parameters,
            TIMEOUT,
            KEY,
            *of_answer(),
        ],
        request={JSON: _REQUEST},
        responses={
            (200, JSON): OpenApiResponse(_ANSWER, examples=[answered("One text", _ANSWERED)]),
            (200, BINARY): OpenApiResponse({"type": "string", "format": "binary"}),
            **failures_of_asking(ERRORS),
        },
        examples=[asked("Two texts", TEXTS), asked("A query and texts", RANKED)],
    )


model = _metadata("oip_model", "A model and its tensors", MODEL)
version = _metadata("oip_version", "One version and its tensors", NAME, VERSION)
model_ready = _model_ready("oip_model_ready", "A request to the model would be answered now", MODEL)
version_ready = _model_ready("oip_version_ready", "A live worker serves the version", NAME, VERSION)
infer = _infer("oip_infer", "Ask a model", MODEL)
version_infer = _infer("oip_version_infer", "Ask one version of a model", NAME, VERSION)

"""The Swagger schema of each endpoint: every status, with an example."""

from typing import Any

from django.conf import settings
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import exceptions

from inference import errors
from inference.serializers import (
    EMBEDDING_SCHEMA,
    TEXT_SCHEMA,
    LiveSerializer,
    ProblemSerializer,
    ReadySerializer,
    StatSerializer,
)


def _header(name: str, description: str, statuses: list[int], kind: Any = str) -> OpenApiParameter:
    return OpenApiParameter(
        name,
        kind,
        OpenApiParameter.HEADER,
        description=description,
        response=statuses,
        required=False,
    )


def _problems(*kinds: type[errors.APIError]) -> dict[tuple[int, str], OpenApiResponse]:
    """Responses by status, each with one example for every kind of error that has it."""
    by_status: dict[int, list[type[errors.APIError]]] = {}
    for kind in kinds:
        by_status.setdefault(kind.status_code, []).append(kind)
    return {
        (status, errors.MEDIA_TYPE): OpenApiResponse(
            ProblemSerializer,
            description=" / ".join(kind.title for kind in those),
            examples=[
                _example(kind.default_code, kind.title, status, kind.example) for kind in those
            ],
        )
        for status, those in by_status.items()
    }


def _framework(status: int, code: str, title: str, detail: str) -> dict[Any, OpenApiResponse]:
    return {
        (status, errors.MEDIA_TYPE): OpenApiResponse(
            ProblemSerializer,
            description=title,
            examples=[_example(code, title, status, detail)],
        )
    }


def _example(code: str, title: str, status: int, detail: str) -> OpenApiExample:
    return OpenApiExample(
        code,
        value=errors.problem(status, code, title, detail),
        response_only=True,
        status_codes=[status],
        media_type=errors.MEDIA_TYPE,
    )


def require_bodies(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Says that a body must come: drf-spectacular doesn't where its schema is given by hand."""
    for operations in result["paths"].values():
        for operation in operations.values():
            if "requestBody" in operation:
                operation["requestBody"]["required"] = True
    return result


transform = extend_schema(
    operation_id="transform",
    summary="Embed a text",
    description=(
        "Send a bare JSON string; get its embedding, an array of floats. A text longer than the "
        "model takes is truncated, and the answer says so in `X-Velo-Truncated`."
    ),
    request={"application/json": TEXT_SCHEMA},
    examples=[
        OpenApiExample("Russian", value="Тест!", request_only=True),
        OpenApiExample("English", value="Hello, world", request_only=True),
        OpenApiExample("Embedding (first numbers)", value=[0.0123, -0.0456], response_only=True),
    ],
    parameters=[
        OpenApiParameter(
            "X-Request-Timeout",
            {"type": "number", "minimum": 0, "exclusiveMinimum": True},
            OpenApiParameter.HEADER,
            description=(
                "Seconds that you wait: nothing is computed for you afterwards. At most, and if it "
                f"isn't sent: {settings.VELO_REQUEST_TIMEOUT:g}."
            ),
        ),
        _header("X-Velo-Model-Version", "The version that answered, name@version.", [200]),
        _header("X-Velo-Worker", "The id of the worker that answered.", [200]),
        _header(
            "X-Velo-Truncated",
            "Only on a text longer than the model takes: the tokens it read.",
            [200],
            int,
        ),
        _header("Server-Timing", "Milliseconds in queue, model and in total.", [200]),
        _header("Retry-After", "Seconds.", [429, 503], int),
    ],
    responses={
        200: EMBEDDING_SCHEMA,
        **_problems(
            errors.InvalidJSON,
            errors.NotAString,
            errors.BlankInput,
            errors.InvalidTimeout,
            errors.BodyTimeout,
            errors.LengthRequired,
            errors.InputTooLong,
            errors.BodyTooLarge,
            errors.QueueFull,
            errors.ClientShare,
            errors.ModelFailed,
            errors.Poisonous,
            errors.NoWorker,
            errors.QueueAway,
            errors.JobLost,
            errors.DeadlinePassed,
        ),
        **_framework(
            exceptions.UnsupportedMediaType.status_code,
            exceptions.UnsupportedMediaType.default_code,
            "Unsupported Media Type",
            'Unsupported media type "text/plain" in request.',
        ),
    },
)

stat = extend_schema(
    operation_id="stat",
    summary="Workers, queue and response time",
    responses={
        200: OpenApiResponse(
            StatSerializer,
            examples=[
                OpenApiExample(
                    "One worker",
                    value={
                        "workers": {
                            "8d5d1f5f0f5c4f6fb1f0d2a4f1e7a9c3": {
                                "last_seen": "2026-11-22T20:09:02.844896+00:00",
                                "model_version": "all-MiniLM-L6-v2@832723122d07",
                                "node_name": "dl-box",
                                "model_time": 0.010133,
                            }
                        },
                        "queue_lenght": 1,
                        "queue_length": 1,
                        "response_time": 0.0234,
                        "database_age": 0.0,
                    },
                    response_only=True,
                    status_codes=[200],
                )
            ],
        ),
        **_problems(errors.QueueAway, errors.DatabaseAway),
    },
    parameters=[_header("Retry-After", "Seconds.", [503], int)],
)

live = extend_schema(
    operation_id="live",
    summary="The web process answers",
    responses={
        200: OpenApiResponse(
            LiveSerializer,
            examples=[OpenApiExample("Live", value={"status": "live"}, response_only=True)],
        )
    },
)

ready = extend_schema(
    operation_id="ready",
    summary="Redis answers, and a live worker holds a model",
    responses={
        200: OpenApiResponse(
            ReadySerializer,
            examples=[
                OpenApiExample(
                    "Ready",
                    value={"status": "ready", "workers": 1},
                    response_only=True,
                    status_codes=[200],
                )
            ],
        ),
        **_problems(errors.NoWorker, errors.QueueAway),
    },
    parameters=[_header("Retry-After", "Seconds.", [503], int)],
)

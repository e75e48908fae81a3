"""The Swagger schema of each endpoint: every status, with an example."""

from typing import Any

from django.conf import settings
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema

from inference import errors
from inference.serializers import (
    LiveSerializer,
    ModelsSerializer,
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


def _example(code: str, title: str, status: int, detail: str) -> OpenApiExample:
    return OpenApiExample(
        code,
        value=errors.problem(status, code, title, detail),
        response_only=True,
        status_codes=[status],
        media_type=errors.MEDIA_TYPE,
    )


ASKED = (  # errors that any request for a model may meet
    errors.BadRequest,
    errors.InvalidJSON,
    errors.InvalidEncoding,
    errors.NotAString,
    errors.InvalidInput,
    errors.BlankInput,
    errors.InvalidTimeout,
    errors.Unauthorized,
    errors.BodyTimeout,
    errors.LengthRequired,
    errors.InputTooLong,
    errors.BodyTooLarge,
    errors.UnsupportedMediaType,
    errors.UnsupportedEncoding,
    errors.QueueFull,
    errors.ClientShare,
    errors.RateLimited,
    errors.ModelFailed,
    errors.Poisonous,
    errors.ServerError,
    errors.NoWorker,
    errors.Suspended,
    errors.QueueAway,
    errors.JobLost,
    errors.DeadlinePassed,
)


KEY = OpenApiParameter(
    "X-Request-Key",
    str,
    OpenApiParameter.HEADER,
    description=(
        "Any text, for example a user's id: requests with the same key get their answers from "
        "the same version while a canary has a share."
    ),
)


TIMEOUT = OpenApiParameter(
    "X-Request-Timeout",
    {"type": "number", "minimum": 0, "exclusiveMinimum": True},
    OpenApiParameter.HEADER,
    description=(
        "Seconds that you wait: nothing is computed for you afterwards. At most, and if it isn't "
        f"sent: {settings.VELO_REQUEST_TIMEOUT:g}."
    ),
)


def of_answer() -> list[OpenApiParameter]:
    """The headers of an answer by a model."""
    return [
        _header("X-Velo-Model", "The name of the model that answered.", [200]),
        _header("X-Velo-Model-Version", "The version that answered, name@version.", [200]),
        _header("X-Velo-Worker", "The id of the worker that answered; of several, all.", [200]),
        _header(
            "X-Velo-Truncated",
            "Only on a text longer than the model takes: the tokens it read.",
            [200],
            int,
        ),
        _header("Server-Timing", "Milliseconds in queue, model and in total.", [200]),
        _header("X-Request-Id", "The caller's own, or a new id. Logs have it too.", [200]),
        _header("RateLimit", "What is left of the client's limits (IETF draft).", [200, 429]),
        _header("RateLimit-Policy", "The client's limits.", [200, 429]),
        _header("Retry-After", "Seconds.", [429, 503], int),
    ]


def _transform(
    operation_id: str, summary: str, description: str, *further: type[errors.APIError]
) -> Any:
    """`openapi.py` puts in what the models take and give."""
    return extend_schema(
        operation_id=operation_id,
        summary=summary,
        description=description,
        request={"application/json": {}},
        parameters=[
            TIMEOUT,
            *([] if errors.UnknownVersion in further else [KEY]),
            *of_answer(),
        ],
        responses={
            200: {},
            **_problems(*ASKED, *further),
        },
    )


transform = _transform("transform", "Ask the default model", "")
model_transform = _transform(
    "transform_model",
    "Ask a model",
    "Each model takes and gives what its kind does; `/models` lists them.",
    errors.UnknownModel,
    errors.NotServing,
)
version_transform = _transform(
    "transform_version",
    "Ask one version of a model",
    "No other version answers instead. Each model takes and gives what its kind does.",
    errors.UnknownModel,
    errors.UnknownVersion,
    errors.NotServing,
)

models = extend_schema(
    operation_id="models",
    summary="The models and their versions",
    responses={
        200: OpenApiResponse(
            ModelsSerializer,
            examples=[
                OpenApiExample(
                    "One model, with a canary",
                    value={
                        "default": "sentiment",
                        "models": {
                            "sentiment": {
                                "kind": "classify",
                                "active": "1",
                                "canary": {"version": "2", "percent": 10},
                                "shadow": None,
                                "versions": {
                                    "1": {"state": "active", "workers": 2},
                                    "2": {"state": "ready", "workers": 2},
                                },
                            }
                        },
                    },
                    response_only=True,
                    status_codes=[200],
                )
            ],
        ),
        **_problems(errors.QueueAway),
    },
    parameters=[_header("Retry-After", "Seconds.", [503], int)],
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
    summary="A request to the default model would be answered now",
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
        **_problems(errors.NoWorker, errors.Suspended, errors.QueueAway),
    },
    parameters=[_header("Retry-After", "Seconds.", [503], int)],
)

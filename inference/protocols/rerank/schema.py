"""The Swagger schema of the endpoints that rank."""

from django.conf import settings
from drf_spectacular.utils import OpenApiResponse, extend_schema

from inference.protocols.describing import (
    COUNT,
    JSON,
    MODEL,
    OPENAI,
    TEXT,
    answered,
    asked,
    failures_of_asking,
    list_of,
    object_of,
    one_of,
)
from inference.schema import KEY, TIMEOUT, of_answer

_DOCUMENT = {"anyOf": [TEXT, object_of(text=TEXT)]}
REQUEST = {
    "type": "object",
    "properties": {
        "query": TEXT,
        "documents": list_of(_DOCUMENT, settings.VELO_MAX_INPUTS),
        "model": MODEL,
        "top_n": {
            "type": "integer",
            "minimum": 1,
            "nullable": True,
            "description": "How many of the best results come back. Without it: all.",
        },
        "return_documents": {"type": "boolean", "nullable": True},
    },
    "required": ["query", "documents"],
}
_RESULT = {
    "type": "object",
    "properties": {
        "index": COUNT,
        "relevance_score": {"type": "number"},
        "document": object_of(text={"type": "string"}),
    },
    "required": ["index", "relevance_score"],
}
RANKING = object_of(
    id={"type": "string"},
    object=one_of("rerank"),
    model={"type": "string"},
    results={"type": "array", "items": _RESULT},
    usage=object_of(prompt_tokens=COUNT, total_tokens=COUNT),
    meta=object_of(
        api_version=object_of(version={"type": "string"}),
        billed_units=object_of(search_units=COUNT),
        tokens=object_of(input_tokens=COUNT),
    ),
)
RANKED = {
    "id": "1f3d2c9a-5a5f-4b0a-9df5-1c6b8f1f7f6e",
    "object": "rerank",
    "model": "ranker",
    "results": [{"index": 1, "relevance_score": 0.97}, {"index": 0, "relevance_score": 0.11}],
    "usage": {"prompt_tokens": 31, "total_tokens": 31},
    "meta": {
        "api_version": {"version": "2"},
        "billed_units": {"search_units": 1},
        "tokens": {"input_tokens": 31},
    },
}
ASKED = {
    "query": "How long is a day?",
    "documents": ["A year has 365 days.", "A day has 24 hours."],
}

rerank = extend_schema(
    tags=["Rerank: Cohere and Jina"],
    summary="Rank documents by a query",
    description=(
        f"Up to {settings.VELO_MAX_INPUTS} documents; the best comes first. A model of the kind "
        "rerank answers. Fields that aren't known are ignored."
    ),
    parameters=[TIMEOUT, KEY, *of_answer()],
    request={JSON: REQUEST},
    responses={
        (200, JSON): OpenApiResponse(RANKING, examples=[answered("Two documents", RANKED)]),
        **failures_of_asking(OPENAI),
    },
    examples=[asked("Two documents", ASKED)],
)

"""The Swagger schema of TEI's endpoints."""

from typing import Any

from django.conf import settings
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema

from inference import errors
from inference.protocols.describing import (
    COUNT,
    JSON,
    OPENAI,
    TEI,
    TEXT,
    answered,
    asked,
    either,
    failures,
    failures_of_asking,
    list_of,
    object_of,
    one_of,
)
from inference.protocols.rerank import schema as cohere
from inference.protocols.tei.questions import FUNCTIONS, SIDES
from inference.schema import KEY, TIMEOUT, of_answer

TAGS = ["TEI and Hugging Face inference"]
MOST = settings.VELO_MAX_INPUTS

# --- pieces of requests ------------------------------------------------------------------------

_FLAG = {"type": "boolean", "nullable": True}
_TEXTS = {"anyOf": [TEXT, list_of(TEXT, MOST)]}


def _choice(description: str, *values: str) -> dict[str, Any]:
    found = {"type": "string", "nullable": True, "enum": [*values, None]}
    return {**found, "description": description}


def _request(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def _parameters(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "nullable": True, "properties": properties}


_TRUNCATE = {**_FLAG, "description": "false: a text that is too long is an error. Default: true."}
_READ = {
    "truncate": _TRUNCATE,
    "truncation_direction": _choice("Of a long text, the side that is left out.", *SIDES),
}
_PROMPT = {"type": "string", "nullable": True, "description": "The name of a prompt of the model."}
_RAW = {**_FLAG, "description": "true: the logits. Default: false."}

_EMBED = _request(
    {
        "inputs": _TEXTS,
        "normalize": {**_FLAG, "description": "Default: true."},
        "dimensions": {"type": "integer", "minimum": 0, "nullable": True},
        "prompt_name": _PROMPT,
        **_READ,
    },
    "inputs",
)
_FEW = {"anyOf": [TEXT, list_of(TEXT, settings.VELO_BATCH_MAX)]}
_EMBED_ALL = _request({"inputs": _FEW, "prompt_name": _PROMPT, **_READ}, "inputs")
_EMBED_SPARSE = _request({"inputs": _TEXTS, **_READ}, "inputs")
_SIMILARITY = _request(
    {
        "inputs": object_of(source_sentence=TEXT, sentences=list_of(TEXT, MOST)),
        "parameters": _parameters(prompt_name=_PROMPT, **_READ),
    },
    "inputs",
)
_PREDICT = _request(
    {
        "inputs": {"anyOf": [TEXT, list_of(list_of(TEXT, 1), MOST)]},
        "raw_scores": _RAW,
        **_READ,
    },
    "inputs",
)
_TOKENIZE = _request(
    {"inputs": _TEXTS, "add_special_tokens": _FLAG, "prompt_name": _PROMPT}, "inputs"
)
_RERANK = _request(
    {
        "query": TEXT,
        "texts": list_of(TEXT, MOST),
        "raw_scores": _RAW,
        "return_text": _FLAG,
        "truncate": _TRUNCATE,
        "truncation_direction": _choice("Of a long text, the end is left out.", "Right", "right"),
    },
    "query",
    "texts",
)
_CLASSIFY = _request(
    {
        "inputs": _TEXTS,
        "parameters": _parameters(
            top_k={"type": "integer", "minimum": 1, "nullable": True},
            function_to_apply=_choice("What the logits become.", *FUNCTIONS),
            **_READ,
        ),
    },
    "inputs",
)
# What a base address takes, by the kind of the model.
HOSTED: dict[str, Any] = {
    "embed": {"anyOf": [_EMBED, _SIMILARITY]},
    "sleep": {"anyOf": [_EMBED, _SIMILARITY]},
    "classify": _CLASSIFY,
    "ner": _EMBED_SPARSE,
    "rerank": _RERANK,
}

# --- pieces of answers -------------------------------------------------------------------------

_NUMBER = {"type": "number"}
_VECTORS = {"type": "array", "items": {"type": "array", "items": _NUMBER}}
_TOKEN_VECTORS = {"type": "array", "items": _VECTORS}
_SPARSE = {
    "type": "array",
    "items": {"type": "array", "items": object_of(index=COUNT, value=_NUMBER)},
}
_LABELS = {"type": "array", "items": object_of(score=_NUMBER, label={"type": "string"})}
_RANKING = {
    "type": "array",
    "items": _request(
        {"index": COUNT, "text": {"type": "string"}, "score": _NUMBER}, "index", "score"
    ),
}
_PLACE = {"type": "integer", "minimum": 0, "nullable": True}
_TOKENS = {
    "type": "array",
    "items": {
        "type": "array",
        "items": object_of(
            id=COUNT,
            text={"type": "string"},
            special={"type": "boolean"},
            start=_PLACE,
            stop=_PLACE,
        ),
    },
}
_UNKNOWN = {"type": "string", "nullable": True}
_INFO = object_of(
    model_id={"type": "string"},
    model_sha=_UNKNOWN,
    model_dtype=_UNKNOWN,
    served_model_name={"type": "string"},
    model_type={"type": "object"},
    max_concurrent_requests=COUNT,
    max_input_length={**COUNT, "nullable": True},
    max_batch_tokens=COUNT,
    max_batch_requests=COUNT,
    max_client_batch_size=COUNT,
    auto_truncate={"type": "boolean"},
    tokenization_workers=COUNT,
    version={"type": "string"},
    sha=_UNKNOWN,
    docker_label=_UNKNOWN,
)

# --- endpoints ---------------------------------------------------------------------------------

_HELLO = {"inputs": "Hello, world"}
_TWO = {"inputs": ["Hello, world", "Тест!"]}
_QUESTION = {
    "query": "How long is a day?",
    "texts": ["A year has 365 days.", "A day has 24 hours."],
}
_ANSWERS = [{"index": 1, "score": 0.97}, {"index": 0, "score": 0.11}]
_SCORES = [{"score": 0.98, "label": "positive"}, {"score": 0.02, "label": "negative"}]
_ALIKE = {"inputs": {"source_sentence": "Hello", "sentences": ["Good morning", "A stone"]}}
HOSTED_EXAMPLES = {
    "embed": _HELLO,
    "sleep": _HELLO,
    "classify": {"inputs": "I like it."},
    "ner": {"inputs": "Ada Lovelace was born in London."},
    "rerank": _QUESTION,
}


_FAILURES = failures_of_asking(TEI, errors.TooManyTokens)


def _asking(
    name: str,
    summary: str,
    description: str,
    takes: Any,
    gives: Any,
    examples: list[OpenApiExample],
) -> Any:
    """Of an endpoint that asks a model."""
    place = f"/models/{{model}}/{name}".rstrip("/")
    return extend_schema(
        operation_id=f"tei_{name or 'hosted'}",
        tags=TAGS,
        summary=summary,
        description=f"{description} The same is at `{place}`, for each model.",
        parameters=[TIMEOUT, KEY, *of_answer()],
        request={JSON: takes},
        responses={(200, JSON): OpenApiResponse(gives), **_FAILURES},
        examples=examples,
    )


embed = _asking(
    "embed",
    "Embed one text or many",
    f"Up to {MOST} texts; the answer is an array of vectors, also for one text.",
    _EMBED,
    _VECTORS,
    [asked("Two texts", _TWO), asked("One text", _HELLO), answered("A text", [[0.0123, -0.0456]])],
)
embed_all = _asking(
    "embed_all",
    "Embed each token",
    f"For each of at most {settings.VELO_BATCH_MAX} texts, a vector of each token that the model "
    "reads, special tokens included.",
    _EMBED_ALL,
    _TOKEN_VECTORS,
    [asked("One text", _HELLO), answered("Two tokens", [[[0.01, -0.04], [0.02, 0.03]]])],
)
embed_sparse = _asking(
    "embed_sparse",
    "Embed into the vocabulary",
    "For each text, the indices of the vocabulary with a value above 0. A model of the kind "
    "sparse answers.",
    _EMBED_SPARSE,
    _SPARSE,
    [asked("One text", _HELLO), answered("A text", [[{"index": 1012, "value": 0.73}]])],
)
predict = _asking(
    "predict",
    "Classify one text or many",
    "All labels with their scores, the best first: of one text an array, of an array of texts an "
    "array of arrays. A model of the kind classify answers. Two strings in an array are a pair, "
    "which a model of the kind rerank scores.",
    _PREDICT,
    {"anyOf": [_LABELS, {"type": "array", "items": _LABELS}]},
    [
        asked("One text", {"inputs": "I like it."}),
        asked("Two texts", {"inputs": [["I like it."], ["I don't."]]}),
        answered("A text", _SCORES),
    ],
)
similarity = _asking(
    "similarity",
    "Compare sentences with a sentence",
    "The cosine of the source sentence's embedding to each sentence's.",
    _SIMILARITY,
    {"type": "array", "items": _NUMBER},
    [asked("Two sentences", _ALIKE), answered("Two sentences", [0.52, 0.11])],
)
tokenize = _asking(
    "tokenize",
    "Split texts into the model's tokens",
    "Nothing is truncated. `start` and `stop` count characters.",
    _TOKENIZE,
    _TOKENS,
    [
        asked("One text", _HELLO),
        answered(
            "A text", [[{"id": 7592, "text": "Hello", "special": False, "start": 0, "stop": 5}]]
        ),
    ],
)
hosted = _asking(
    "",
    "Ask the default model as Hugging Face's hosted inference is asked",
    "By the model's kind: embeddings, scores of labels, or named entities; with source_sentence "
    "and sentences in `inputs`, cosines; with query and texts, a ranking.",
    {"anyOf": list(HOSTED.values())},
    {"type": "array", "items": {}},
    [asked("A text", _HELLO), answered("An embedding", [[0.0123, -0.0456]])],
)
rerank = extend_schema(
    operation_id="rerank",
    tags=TAGS,
    summary="Rank texts by a query",
    description=(
        f"Up to {MOST} texts; the best comes first. With `texts` in TEI's form, with `documents` "
        "in Cohere's. A model of the kind rerank answers. The same is at `/models/{model}/rerank`, "
        "for each model."
    ),
    parameters=[TIMEOUT, KEY, *of_answer()],
    request={JSON: {"anyOf": [_RERANK, cohere.REQUEST]}},
    responses={
        (200, JSON): OpenApiResponse(
            {"anyOf": [_RANKING, cohere.RANKING]},
            examples=[answered("TEI", _ANSWERS), answered("Cohere", cohere.RANKED)],
        ),
        **either(_FAILURES, failures_of_asking(OPENAI)),
    },
    examples=[asked("TEI", _QUESTION), asked("Cohere", cohere.ASKED)],
)
root = extend_schema(
    operation_id="root",
    tags=TAGS,
    summary="The Swagger page",
    responses={
        (200, "text/html"): OpenApiResponse(str, description="By way of a redirect to `/docs`.")
    },
)
info = extend_schema(
    operation_id="tei_info",
    tags=TAGS,
    summary="What answers, and its limits",
    description="Of the default model. The same is at `/models/{model}/info`, for each model.",
    responses={
        (200, JSON): OpenApiResponse(_INFO),
        **failures(TEI, errors.UnknownModel, errors.NoWorker, errors.QueueAway),
    },
)
health = extend_schema(
    operation_id="tei_health",
    tags=TAGS,
    summary="Whether models answer",
    description="The same is at `/models/{model}/health`, for each model.",
    responses={
        (200, JSON): OpenApiResponse(
            object_of(status=one_of("ready")), examples=[answered("Ready", {"status": "ready"})]
        ),
        **failures(TEI, errors.NoWorker, errors.Suspended, errors.QueueAway),
    },
)

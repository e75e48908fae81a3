"""The protocol's endpoints: read, ask, answer."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference import dispatch, headers, timing
from inference.choice import Target
from inference.errors import InvalidJSON
from inference.protocols import fields
from inference.protocols.oip import answers, metadata, schema
from inference.protocols.oip.answers import Output
from inference.protocols.oip.body import BINARY, JSON_LENGTH, AnyBody, Body, BodyParser
from inference.protocols.oip.questions import EXAMPLE, Question, question
from inference.protocols.oip.signatures import signature
from inference.protocols.rerank import asking
from inference.protocols.rerank import questions as ranking
from inference.serializers import check_timeout
from workers.values.prediction import Prediction

BETWEEN_0_AND_1 = {"raw_scores": False}  # of a text's score, as /v2/rerank gives it


@extend_schema_view(get=schema.server)
class ServerView(APIView):
    def get(self, request: Request) -> Response:
        return Response(metadata.server())


@extend_schema_view(get=schema.live)
class LiveView(APIView):
    def get(self, request: Request) -> Response:
        return Response({"live": True})


@extend_schema_view(get=schema.ready)
class ReadyView(APIView):
    def get(self, request: Request) -> Response:
        dispatch.ready()
        return Response({"ready": True})


@extend_schema_view(get=schema.model)
class ModelView(APIView):
    def get(self, request: Request, model: str, version: str | None = None) -> Response:
        return Response(metadata.model(dispatch.known_plan(), wanted(model, version)))


@extend_schema_view(get=schema.version)
class VersionView(ModelView):
    """With the version in the address."""


@extend_schema_view(get=schema.model_ready)
class ModelReadyView(APIView):
    def get(self, request: Request, model: str, version: str | None = None) -> Response:
        dispatch.ready(wanted(model, version))
        return Response({"name": model, "ready": True})


@extend_schema_view(get=schema.version_ready)
class VersionReadyView(ModelReadyView):
    """With the version in the address."""


@extend_schema_view(post=schema.infer)
class InferView(APIView):
    parser_classes = [BodyParser]
    content_negotiation_class = AnyBody

    def post(self, request: Request, model: str, version: str | None = None) -> HttpResponseBase:
        started = time.perf_counter()
        if request.stream is None:
            raise InvalidJSON(f"The body is empty. Expected JSON, for example {EXAMPLE}.")
        seconds = check_timeout(request.headers.get("X-Request-Timeout"))
        body = cast(Body, request.data)
        target = wanted(model, version, request.headers.get("X-Request-Key"))
        kind = dispatch.kind_of(target)
        asked = question(body, signature(kind, target.model))
        predictions, outputs = ask(asked, replace(target, kinds=frozenset({kind})), kind, seconds)
        found, raws = answers.answer(asked, predictions[0].model_version, outputs)
        content, length = answers.joined(found, raws) if raws else (b"", 0)
        took = time.perf_counter() - started
        timing.record(predictions[0], took)
        said = headers.of_answer(predictions, took)
        if not raws:
            return Response(found, headers=said)
        return HttpResponse(content, content_type=BINARY, headers=said | {JSON_LENGTH: str(length)})


@extend_schema_view(post=schema.version_infer)
class VersionInferView(InferView):
    """With the version in the address."""


def wanted(model: str, version: str | None, key: str | None = None) -> Target:
    """By an address: its first part may be "name@version" where no version follows."""
    if version is not None:
        return Target(model, version)
    return fields.target(model, frozenset(), key)


def ask(
    asked: Question, target: Target, kind: str, seconds: float
) -> tuple[Sequence[Prediction], list[Output]]:
    """The predictions, and the tensors they make. Raises what `dispatch.ask` does."""
    if kind == "rerank":
        [query], texts = asked.inputs["query"], asked.inputs["texts"]
        ranked = ranking.Question(*ranking.texts(query, texts, "texts"), target, None, False)
        parts, predictions = asking.ask(ranked, seconds, BETWEEN_0_AND_1, "texts")
        return predictions, answers.scored(parts, predictions)
    texts = asked.inputs["text"]
    names = [f"text[{number}]" for number in range(len(texts))]
    predictions = dispatch.ask(target, texts, seconds, names)
    if kind == "classify":
        version = dispatch.known_plan().version(predictions[0].model_version)
        return predictions, answers.classified(predictions, version)
    return predictions, answers.embedded(predictions)

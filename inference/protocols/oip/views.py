"""The protocol's endpoints: read, ask, answer."""

from collections.abc import Sequence
from dataclasses import replace

from drf_spectacular.utils import extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference import dispatch
from inference.choice import Target
from inference.protocols import fields
from inference.protocols.endpoint import Answered, Asker, AskingView
from inference.protocols.oip import answers, metadata, schema
from inference.protocols.oip.answers import Output
from inference.protocols.oip.body import BINARY, JSON_LENGTH, AnyBody, Body, BodyParser
from inference.protocols.oip.questions import EXAMPLE, Question, question
from inference.protocols.oip.signatures import signature
from inference.protocols.rerank import asking
from inference.protocols.rerank import questions as ranking
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
class InferView(AskingView):
    parser_classes = [BodyParser]
    content_negotiation_class = AnyBody
    example = EXAMPLE

    def answer(self, body: Body, asker: Asker) -> Answered:
        target = wanted(asker.model, asker.version, asker.key)
        kind = dispatch.kind_of(target)
        asked = question(body, signature(kind, target.model))
        fixed = replace(target, kinds=frozenset({kind}))
        predictions, outputs = ask(asked, fixed, kind, asker.seconds)
        found, raws = answers.answer(asked, predictions[0].model_version, outputs)
        if not raws:
            return Answered(found, predictions)
        content, length = answers.joined(found, raws)
        return Answered(content, predictions, {"Content-Type": BINARY, JSON_LENGTH: str(length)})


@extend_schema_view(post=schema.version_infer)
class VersionInferView(InferView):
    """With the version in the address."""


def wanted(model: str | None, version: str | None, key: str | None = None) -> Target:
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

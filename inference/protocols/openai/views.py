"""OpenAI's endpoints: read, ask, answer."""

from typing import Any

from drf_spectacular.utils import extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference import dispatch
from inference.errors import UnknownModel
from inference.protocols import fields
from inference.protocols.endpoint import Answered, Asker, AskingView
from inference.protocols.openai import answers, schema
from inference.protocols.openai.questions import question


@extend_schema_view(post=schema.embeddings)
class EmbeddingsView(AskingView):
    example = '{"input": "Hello"}'

    def answer(self, body: Any, asker: Asker) -> Answered:
        asked = question(body, asker.key)
        predictions = dispatch.ask(
            asked.target, asked.texts, asker.seconds, parameters=asked.parameters
        )
        return Answered(answers.embeddings(asked, predictions), predictions)


class ModelsView(APIView):
    @schema.models
    def get(self, request: Request) -> Response:
        return Response(answers.models(dispatch.known_plan()))


class ModelView(APIView):
    @schema.model
    def get(self, request: Request, name: str) -> Response:
        plan = dispatch.known_plan()
        wanted = fields.target(name, frozenset())
        known = plan.models.get(wanted.model or plan.default or "")
        if known is None or (wanted.version and wanted.version not in known.versions):
            raise UnknownModel(f"There is no model {name[:100]!r}. /v1/models lists them.")
        return Response(answers.model(name, known, wanted.version))

"""OpenAI's endpoints: read, ask, answer."""

import time

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference import dispatch, headers, timing
from inference.errors import InvalidJSON, UnknownModel
from inference.protocols import fields
from inference.protocols.openai import answers, schema
from inference.protocols.openai.questions import question
from inference.serializers import check_timeout


class EmbeddingsView(APIView):
    @schema.embeddings
    def post(self, request: Request) -> Response:
        started = time.perf_counter()
        if request.stream is None:
            raise InvalidJSON('The body is empty. Expected JSON, for example {"input": "Hello"}.')
        seconds = check_timeout(request.headers.get("X-Request-Timeout"))
        asked = question(request.data, request.headers.get("X-Request-Key"))
        predictions = dispatch.ask(asked.target, asked.texts, seconds)
        body = answers.embeddings(asked, predictions)
        took = time.perf_counter() - started
        timing.record(predictions[0], took)
        return Response(body, headers=headers.of_answer(predictions, took))


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

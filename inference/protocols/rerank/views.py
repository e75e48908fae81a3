"""The endpoints that rank: read, ask, answer."""

import time

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference import headers, timing
from inference.errors import InvalidJSON
from inference.protocols.rerank import answers, asking, schema
from inference.protocols.rerank.questions import question
from inference.serializers import check_timeout

# Of a document's score: from 0 to 1, whatever the version gives by itself.
BETWEEN_0_AND_1 = {"raw_scores": False}


class RerankView(APIView):
    version = "1"  # of Cohere's API

    @schema.rerank
    def post(self, request: Request) -> Response:
        started = time.perf_counter()
        if request.stream is None:
            raise InvalidJSON(
                'The body is empty. Expected JSON, for example {"query": "…", "documents": ["…"]}.'
            )
        seconds = check_timeout(request.headers.get("X-Request-Timeout"))
        asked = question(request.data, request.headers.get("X-Request-Key"))
        parts, predictions = asking.ask(asked, seconds, BETWEEN_0_AND_1)
        body = answers.ranking(asked, parts, predictions, self.version)
        took = time.perf_counter() - started
        timing.record(predictions[0], took)
        return Response(body, headers=headers.of_answer(predictions, took))


class SecondRerankView(RerankView):
    version = "2"

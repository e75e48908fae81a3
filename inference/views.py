"""HTTP in, HTTP out: validate, call, respond."""

import time

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference import dispatch, schema, timing
from inference.errors import InvalidJSON, LengthRequired
from inference.serializers import check_text, check_timeout
from workers.stat import stat


class TransformView(APIView):
    @schema.transform
    def post(self, request: Request) -> Response:
        started = time.perf_counter()
        if request.stream is None:
            if "HTTP_TRANSFER_ENCODING" in request.META:
                raise LengthRequired
            raise InvalidJSON('The body is empty. Expected a JSON string, for example "Hello!".')
        timeout = check_timeout(request.headers.get("X-Request-Timeout"))
        prediction = dispatch.transform(check_text(request.data), timeout)
        seconds = time.perf_counter() - started
        timing.record(prediction, seconds)
        headers = {
            "X-Velo-Model-Version": prediction.model_version,
            "X-Velo-Worker": prediction.worker,
            "Server-Timing": timing.server_timing(prediction, seconds),
        }
        if prediction.truncated:
            headers["X-Velo-Truncated"] = str(prediction.tokens)
        return Response(prediction.embedding, headers=headers)


class StatView(APIView):
    @schema.stat
    def get(self, request: Request) -> Response:
        with dispatch.redis_errors():
            return Response(stat())


class LiveView(APIView):
    @schema.live
    def get(self, request: Request) -> Response:
        return Response({"status": "live"})


class ReadyView(APIView):
    @schema.ready
    def get(self, request: Request) -> Response:
        return Response({"status": "ready", "workers": dispatch.ready()})

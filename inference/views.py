"""HTTP in, HTTP out: validate, call, respond."""

import time

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.views import View
from drf_spectacular.utils import extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference import dispatch, headers, schema, timing
from inference.choice import Target
from inference.errors import InvalidJSON
from inference.serializers import check_timeout
from workers.metrics.prometheus import MEDIA_TYPE, exposition
from workers.metrics.stat import stat


@extend_schema_view(post=schema.transform)
class TransformView(APIView):
    def post(
        self, request: Request, model: str | None = None, version: str | None = None
    ) -> Response:
        started = time.perf_counter()
        if request.stream is None:
            raise InvalidJSON('The body is empty. Expected JSON, for example the string "Hello!".')
        timeout = check_timeout(request.headers.get("X-Request-Timeout"))
        target = Target(model, version, request.headers.get("X-Request-Key"))
        prediction = dispatch.transform(target, request.data, timeout)
        seconds = time.perf_counter() - started
        timing.record(prediction, seconds)
        return Response(prediction.output, headers=headers.of_answer([prediction], seconds))


@extend_schema_view(post=schema.model_transform)
class ModelTransformView(TransformView):
    """The same, with the model's name in the address."""


@extend_schema_view(post=schema.version_transform)
class VersionTransformView(TransformView):
    """The same, with the version's name there too."""


class ModelsView(APIView):
    @schema.models
    def get(self, request: Request) -> Response:
        return Response(dispatch.models())


class StatView(APIView):
    @schema.stat
    def get(self, request: Request) -> Response:
        with dispatch.redis_errors():
            return Response(stat())


class MetricsView(View):
    """For Prometheus, whose text form has no schema; see VELO_METRICS."""

    def get(self, request: HttpRequest) -> HttpResponse:
        if settings.VELO_METRICS == "off":
            raise Http404
        return HttpResponse(exposition(), content_type=MEDIA_TYPE)


class LiveView(APIView):
    @schema.live
    def get(self, request: Request) -> Response:
        return Response({"status": "live"})


class ReadyView(APIView):
    @schema.ready
    def get(self, request: Request) -> Response:
        return Response({"status": "ready", "workers": dispatch.ready()})

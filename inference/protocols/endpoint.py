"""The frame of an endpoint that asks models: what foreign protocols have in common."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference import headers, timing
from inference.errors import InvalidJSON
from inference.protocols.forms import Form
from inference.serializers import check_timeout
from workers.values.prediction import Prediction


@dataclass(frozen=True)
class Asker:
    """What a request says besides its body."""

    model: str | None  # in its address, as the next
    version: str | None
    key: str | None  # X-Request-Key
    seconds: float  # that the caller waits


@dataclass(frozen=True)
class Answered:
    """The body of an answer, and the predictions that it is made of. Bytes stay as they are, and
    have `headers` of their own."""

    body: Any
    predictions: Sequence[Prediction]
    headers: Mapping[str, str] = field(default_factory=dict)


class AskingView(APIView, ABC):
    """Reads a request, asks, answers."""

    example: str  # of a body
    # In which errors are said, once the body has shown it; until then the path decides.
    form: Form | None = None

    def post(
        self, request: Request, model: str | None = None, version: str | None = None
    ) -> HttpResponseBase:
        started = time.perf_counter()
        if request.stream is None:
            raise InvalidJSON(f"The body is empty. Expected JSON, for example {self.example}.")
        seconds = check_timeout(request.headers.get("X-Request-Timeout"))
        asker = Asker(model, version, request.headers.get("X-Request-Key"), seconds)
        answered = self.answer(request.data, asker)
        took = time.perf_counter() - started
        timing.record(answered.predictions[0], took)
        found = headers.of_answer(answered.predictions, took) | dict(answered.headers)
        made = HttpResponse if isinstance(answered.body, bytes) else Response
        return made(answered.body, headers=found)

    @abstractmethod
    def answer(self, body: Any, asker: Asker) -> Answered:
        """Raises APIError."""

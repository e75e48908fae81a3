"""The caller is found out before anything else, and each answer says the id of its request."""

import time
from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from inference import callers, keys, problems, recording
from inference.callers import Caller
from inference.errors import APIError

ENVIRON = "velo.caller"  # where the door leaves the caller that it has found


class Callers:
    """Django's middleware. The door, where there is one, has done the same before the body came."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started = time.perf_counter()
        caller = request.META.get(ENVIRON)
        response: HttpResponseBase | None = None
        if caller is None:
            request_id = callers.request_id(request.META)
            try:
                caller = keys.caller(request.META, request_id)
            except APIError as error:
                caller = Caller(request_id)
                with callers.acting_for(caller):
                    response = problems.response(request, error.failure)
        if response is None:
            with callers.acting_for(caller):
                response = self._get_response(request)
        for name, value in caller.headers.items():
            response[name] = value
        recording.answered(
            caller,
            request.method or "",
            request.path_info,
            response.status_code,
            time.perf_counter() - started,
            request.META,
        )
        return response

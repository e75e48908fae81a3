"""Sessions, log-in and messages, for the admin alone: a request to the API passes them by."""

from typing import Any

from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest
from django.http.response import HttpResponseBase


def is_for_admin(request: HttpRequest) -> bool:
    return request.path_info.startswith("/admin/")


class AdminSession(SessionMiddleware):
    def __call__(self, request: HttpRequest) -> Any:
        return (super().__call__ if is_for_admin(request) else self.get_response)(request)


class AdminAuthentication(AuthenticationMiddleware):
    def __call__(self, request: HttpRequest) -> Any:
        return (super().__call__ if is_for_admin(request) else self.get_response)(request)

    def process_view(self, request: HttpRequest, *view: Any) -> HttpResponseBase | None:
        if not is_for_admin(request):
            return None
        return super().process_view(request, *view)  # type: ignore[misc]


class AdminMessages(MessageMiddleware):
    def __call__(self, request: HttpRequest) -> Any:
        return (super().__call__ if is_for_admin(request) else self.get_response)(request)

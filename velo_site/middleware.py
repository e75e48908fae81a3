"""Sessions, log-in and messages, for the admin alone: a request to the API passes them by."""

from typing import Any

from axes.middleware import AxesMiddleware
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest


def is_for_admin(request: HttpRequest) -> bool:
    return request.path_info.startswith("/admin/")


class AdminSession(SessionMiddleware):
    def __call__(self, request: HttpRequest) -> Any:
        return (super().__call__ if is_for_admin(request) else self.get_response)(request)


class AdminAuthentication(AuthenticationMiddleware):
    def __call__(self, request: HttpRequest) -> Any:
        return (super().__call__ if is_for_admin(request) else self.get_response)(request)


class AdminLogin(AxesMiddleware):
    def __call__(self, request: HttpRequest) -> Any:
        return (super().__call__ if is_for_admin(request) else self.get_response)(request)


class AdminMessages(MessageMiddleware):
    def __call__(self, request: HttpRequest) -> Any:
        return (super().__call__ if is_for_admin(request) else self.get_response)(request)

"""Errors as HTTP answers: problem details (RFC 9457) for programs, pages for the admin."""

import logging
import sys
from http import HTTPStatus
from typing import Any

import orjson
from django.contrib import admin
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.views import defaults
from rest_framework import exceptions
from rest_framework.response import Response

from inference.errors import (
    MEDIA_TYPE,
    APIError,
    BadRequest,
    DatabaseAway,
    ServerError,
    problem,
)

log = logging.getLogger(__name__)

AWAY = OperationalError, InterfaceError  # what Django raises when the database is


def answer(error: Exception, context: dict[str, Any]) -> Response | None:
    """REST framework's exception handler; None leaves the error to `server_error`."""
    if isinstance(error, AWAY):
        log.warning("the database is away: %s", error)
        error = DatabaseAway()
    if not isinstance(error, exceptions.APIException):
        return None
    if isinstance(error, APIError):
        body, headers = error.body, error.headers
    else:
        title = HTTPStatus(error.status_code).phrase
        body = problem(error.status_code, str(error.get_codes()), title, str(error.detail))
        headers = {}
        if isinstance(error, exceptions.MethodNotAllowed):
            headers["Allow"] = ", ".join(context["view"].allowed_methods)
    return Response(body, error.status_code, headers=headers, content_type=MEDIA_TYPE)


def _plain(status: HTTPStatus, code: str, detail: str) -> HttpResponse:
    return _response(problem(status, code, status.phrase, detail))


def _response(body: dict[str, Any]) -> HttpResponse:
    return HttpResponse(orjson.dumps(body), status=body["status"], content_type=MEDIA_TYPE)


def _for_people(request: HttpRequest) -> bool:
    return request.path.startswith("/admin")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _for_people(request):
        return defaults.bad_request(request, exception)
    detail = "The request can't be read: is its Host among DJANGO_ALLOWED_HOSTS?"
    return _response(BadRequest(detail).body)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _for_people(request):
        return defaults.permission_denied(request, exception)
    return _plain(HTTPStatus.FORBIDDEN, "forbidden", "This is not allowed here.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _for_people(request):
        return defaults.page_not_found(request, exception)
    return _plain(HTTPStatus.NOT_FOUND, "not_found", "Nothing is here. The API is listed at /docs.")


def server_error(request: HttpRequest) -> HttpResponse:
    if isinstance(sys.exception(), AWAY):
        return _database_away(request)
    if _for_people(request):
        return defaults.server_error(request)
    return _response(ServerError().body)


def _database_away(request: HttpRequest) -> HttpResponse:
    if _for_people(request):
        # Without the request, from which the admin's pages would look up in the database who asks.
        context = {"site_header": admin.site.site_header}
        page = render_to_string("admin/database_away.html", context)
        response = HttpResponse(page, status=DatabaseAway.status_code)
    else:
        response = _response(DatabaseAway().body)
    response["Retry-After"] = str(DatabaseAway.retry_after)
    return response

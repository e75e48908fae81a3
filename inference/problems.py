"""Errors as HTTP answers: in the protocol's form for programs, pages for the admin."""

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

from inference import callers, recording
from inference.errors import APIError, BadRequest, DatabaseAway, Failure, ServerError
from inference.protocols.forms import form

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
        failure = error.failure
    else:
        headers = {}
        if isinstance(error, exceptions.MethodNotAllowed):
            headers["Allow"] = ", ".join(context["view"].allowed_methods)
        title = HTTPStatus(error.status_code).phrase
        code = str(error.get_codes())
        failure = Failure(error.status_code, code, title, str(error.detail), headers)
    recording.failed(callers.current(), failure)
    speaks = getattr(context["view"], "form", None) or form(context["request"].path)
    found = speaks(failure)
    return Response(found.body, found.status, headers=found.headers, content_type=found.media_type)


def _plain(request: HttpRequest, status: HTTPStatus, code: str, detail: str) -> HttpResponse:
    return response(request, Failure(status, code, status.phrase, detail))


def response(request: HttpRequest, failure: Failure) -> HttpResponse:
    """The answer, in the form of the protocol that the path belongs to."""
    recording.failed(callers.current(), failure)
    found = form(request.path)(failure)
    return HttpResponse(
        orjson.dumps(found.body),
        status=found.status,
        content_type=found.media_type,
        headers=dict(found.headers),
    )


def _for_people(request: HttpRequest) -> bool:
    return request.path.startswith("/admin")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _for_people(request):
        return defaults.bad_request(request, exception)
    detail = "The request can't be read: is its Host among DJANGO_ALLOWED_HOSTS?"
    return response(request, BadRequest(detail).failure)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _for_people(request):
        return defaults.permission_denied(request, exception)
    return _plain(request, HTTPStatus.FORBIDDEN, "forbidden", "This is not allowed here.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _for_people(request):
        return defaults.page_not_found(request, exception)
    detail = "Nothing is here. The API is listed at /docs."
    return _plain(request, HTTPStatus.NOT_FOUND, "not_found", detail)


def server_error(request: HttpRequest) -> HttpResponse:
    if isinstance(sys.exception(), AWAY):
        return _database_away(request)
    if _for_people(request):
        return defaults.server_error(request)
    return response(request, ServerError().failure)


def _database_away(request: HttpRequest) -> HttpResponse:
    if not _for_people(request):
        return response(request, DatabaseAway().failure)
    # Without the request, from which the admin's pages would look up in the database who asks.
    context = {"site_header": admin.site.site_header}
    page = render_to_string("admin/database_away.html", context)
    away = HttpResponse(page, status=DatabaseAway.status_code)
    away["Retry-After"] = str(DatabaseAway.retry_after)
    return away

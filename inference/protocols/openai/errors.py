"""Errors in OpenAI's form, from which its clients take the message, and whether to try again."""

from collections.abc import Mapping
from typing import Any

from inference.errors import Failure
from inference.protocols.statuses import status_of

TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
SERVER, CALLER = "server_error", "invalid_request_error"
SERVER_ERRORS = 500  # and above
CODES = {"unknown_model": "model_not_found", "unknown_version": "model_not_found"}


def said(failure: Failure) -> tuple[int, Mapping[str, str], Mapping[str, Any]]:
    """Status, headers and body."""
    status, headers = status_of(failure)
    body = {
        "message": failure.detail,
        "type": TYPES.get(status) or (SERVER if status >= SERVER_ERRORS else CALLER),
        "param": failure.param,
        "code": CODES.get(failure.code, failure.code),
    }
    return status, headers, {"error": body}

"""Errors in TEI's form, from which its clients take the sentence."""

from collections.abc import Mapping
from typing import Any

from inference.errors import Failure

# By code, then by status: TEI's own statuses and types.
BY_CODE = {
    "empty_batch": (400, "Empty"),
    "wrong_kind": (424, "Backend"),
    "model_failed": (424, "Backend"),
    "poisonous": (424, "Backend"),
    "not_serving": (503, "Unhealthy"),
}
BY_STATUS = {
    400: (422, "Validation"),
    429: (429, "Overloaded"),
    500: (500, "Backend"),
    503: (503, "Unhealthy"),
    504: (504, "Overloaded"),
}
AGAIN = {"Retry-After": "5"}  # where the failure doesn't say


def said(failure: Failure) -> tuple[int, Mapping[str, str], Mapping[str, Any]]:
    """Status, headers and body."""
    otherwise = BY_STATUS.get(failure.status, (failure.status, "Validation"))
    status, kind = BY_CODE.get(failure.code, otherwise)
    headers = AGAIN | dict(failure.headers) if kind == "Unhealthy" else failure.headers
    return status, headers, {"error": failure.detail, "error_type": kind}

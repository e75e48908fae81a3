"""Errors in TEI's form, from which its clients take the sentence."""

from collections.abc import Mapping
from typing import Any

from inference.errors import Failure
from inference.protocols.statuses import status_of

# By code, then by status: TEI's own statuses and types.
BY_CODE = {
    "empty_batch": (400, "Empty"),
    "wrong_kind": (424, "Backend"),
    "model_failed": (424, "Backend"),
    "poisonous": (424, "Backend"),
}
BY_STATUS = {
    400: (422, "Validation"),
    429: (429, "Overloaded"),
    500: (500, "Backend"),
    503: (503, "Unhealthy"),
    504: (504, "Overloaded"),
}


def said(failure: Failure) -> tuple[int, Mapping[str, str], Mapping[str, Any]]:
    """Status, headers and body."""
    known, headers = status_of(failure)
    otherwise = BY_STATUS.get(known, (known, "Validation"))
    status, kind = BY_CODE.get(failure.code, otherwise)
    return status, headers, {"error": failure.detail, "error_type": kind}

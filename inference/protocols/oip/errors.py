"""Errors in the protocol's form: one sentence."""

from collections.abc import Mapping
from typing import Any

from inference.errors import Failure
from inference.protocols.statuses import status_of


def said(failure: Failure) -> tuple[int, Mapping[str, str], Mapping[str, Any]]:
    """Status, headers and body."""
    return *status_of(failure), {"error": failure.detail}

"""Statuses that foreign clients act on."""

from collections.abc import Mapping

from inference.errors import Failure

# Clients try a 409 again at once, and a 503 after Retry-After.
UNAVAILABLE, AGAIN = 503, {"Retry-After": "5"}


def status_of(failure: Failure) -> tuple[int, Mapping[str, str]]:
    """Status and headers of an error, for clients that don't know Velo."""
    if failure.code == "not_serving":
        return UNAVAILABLE, AGAIN
    return failure.status, failure.headers

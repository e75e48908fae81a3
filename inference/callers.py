"""The caller of a request: its address, its id, its grant and what is left of the limits."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from uuid import uuid4

from django.conf import settings

from inference.errors import Failure
from workers.broker.enqueue import Verdict
from workers.broker.grants import Grant
from workers.values.prediction import Prediction

HOST_BITS = 64  # of an IPv6 address: a caller that has one such address has all of its network
WELL_FORMED = re.compile(r"[\x21-\x7e]{1,128}")  # an id of a request: printable ASCII
REQUEST_ID = "X-Request-Id"
MINUTE, DAY = 60, 86_400  # seconds


@dataclass
class Caller:
    """Of one request."""

    request_id: str = field(default_factory=lambda: str(uuid4()))
    grant: Grant | None = None  # of its key; None: the API is open
    models: frozenset[str] | None = None  # that it may ask and see, by name; None: all
    charged: bool = False  # the limits of the grant have let this request in
    found_full: bool = False  # there was no room in the queue
    # What becomes of the request, for its record.
    label: str = ""  # of the version that is asked, "name@version"
    inputs: int = 0
    predictions: Sequence[Prediction] = ()
    job: str = ""  # that failed
    failure: Failure | None = None
    _verdict: Verdict | None = None

    def note(self, verdict: Verdict | None) -> None:
        """What admission has said. The first word counts: a request is admitted once."""
        self._verdict = self._verdict or verdict

    @property
    def headers(self) -> dict[str, str]:
        """That each answer to it has: its id, and what is left of the client's limits (RateLimit
        header fields for HTTP, draft-ietf-httpapi-ratelimit-headers)."""
        found = {REQUEST_ID: self.request_id}
        policies, left = [], []
        said, grant = self._verdict, self.grant
        if grant and grant.inputs_per_minute:
            policies.append(f'"inputs";q={grant.inputs_per_minute};w={MINUTE}')
            if said and said.inputs_left is not None:
                left.append(f'"inputs";r={said.inputs_left};t={said.full_in}')
        if grant and grant.tokens_per_day:
            policies.append(f'"tokens";q={grant.tokens_per_day};w={DAY}')
            if said and said.tokens_left is not None:
                left.append(f'"tokens";r={said.tokens_left};t={said.day_ends_in}')
        if policies:
            found["RateLimit-Policy"] = ", ".join(policies)
        if left:
            found["RateLimit"] = ", ".join(left)
        return found


_current: ContextVar[Caller | None] = ContextVar("caller", default=None)


def current() -> Caller:
    """Of the request that this thread answers; outside of a request an unknown caller."""
    return _current.get() or Caller()


@contextmanager
def acting_for(caller: Caller) -> Iterator[None]:
    """What this thread does meanwhile is done for this caller."""
    token = _current.set(caller)
    try:
        yield
    finally:
        _current.reset(token)


def request_id(environ: Mapping[str, Any]) -> str:
    """The caller's own X-Request-Id where it is well formed, otherwise a new id."""
    given = environ.get("HTTP_X_REQUEST_ID", "")
    return given if WELL_FORMED.fullmatch(given) else str(uuid4())


def address(environ: Mapping[str, Any]) -> str | None:
    """An IPv4 address or an IPv6 network; None if the server doesn't know.

    Behind a proxy that is trusted this is the last address in X-Forwarded-For, which that proxy
    has put there; those before it may be the caller's invention.
    """
    forwarded = None
    if settings.TRUST_PROXY:
        forwarded = _read(environ.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2])
    return forwarded or _read(environ.get("REMOTE_ADDR", ""))


@lru_cache(maxsize=4096)
def _read(text: str) -> str | None:
    found: IPv4Address | IPv6Address
    try:
        found = ip_address(text.strip())
    except ValueError:
        return None
    if isinstance(found, IPv6Address):
        found = found.ipv4_mapped or IPv6Address(int(found) >> HOST_BITS << HOST_BITS)
    return str(found)

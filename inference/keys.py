"""API keys: what each allows, as Redis has it, kept here so that no request waits for it."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from django.conf import settings

from inference import timing
from inference.callers import Caller
from inference.dispatch import redis_errors
from inference.errors import QueueAway, Unauthorized
from workers.broker import grants
from workers.broker.clock import clock
from workers.broker.grants import Grant, Grants
from workers.host.ticker import Ticker

LOOK = 0.25  # seconds between two looks whether the published grants have changed
BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE)
# Open without a key: probes, the page of the documentation, and the admin and its files, which
# have a log-in of their own.
OPEN = re.compile(r"/health(/.*)?|/v2/health/.*|/admin(/.*)?|/static/.*|/docs|/favicon\.ico")
METRICS = "/metrics"
UNPUBLISHED = (
    "Redis has no API keys yet: a worker publishes them within a second. Try again in 5 s; if that "
    "doesn't help, start a worker."
)
SCHEMA = "/schema"  # without a key it describes no models


class Keyring:
    """The published grants; a thread keeps them fresh."""

    def __init__(self) -> None:
        self._grants: Grants | None = None
        self._stamp: bytes | None = None
        self._ticker = Ticker("API keys", LOOK, self.refresh)

    def keep_fresh(self) -> None:
        """Until `close`."""
        self._ticker.start()

    def close(self) -> None:
        """End the thread."""
        self._ticker.stop()

    def refresh(self) -> None:
        """Read the grants if they have changed. While Redis is away, or has lost them, what was
        known stays. Raises RedisError."""
        stamp = grants.stamp()
        if stamp is None or stamp == self._stamp:
            return
        if (found := grants.published()) is not None:
            self._grants, self._stamp = found, stamp

    def find(self, key: str) -> Grant | None:
        """None for an unknown, a revoked or an expired key. It is looked up by its digest, so the
        time that this takes says nothing about other keys.

        Raises RedisError, or QueueAway, if nothing is known yet.
        """
        if self._grants is None:
            self.refresh()
        if self._grants is None:
            raise QueueAway(UNPUBLISHED)
        grant = self._grants.get(grants.digest(key))
        if grant is None or (grant.expires is not None and grant.expires <= clock.now()):
            return None
        return grant


@cache
def keyring() -> Keyring:
    """This process's, kept fresh."""
    shared = Keyring()
    shared.keep_fresh()
    return shared


def caller(environ: Mapping[str, Any], request_id: str) -> Caller:
    """The caller of a request. Where it needs a valid key and has none (see VELO_AUTH), raises
    Unauthorized, or QueueAway while no keys are known."""
    path = environ["PATH_INFO"]
    if settings.VELO_AUTH == "open" or is_open(environ["REQUEST_METHOD"], path):
        return Caller(request_id)
    key = _key(environ)
    with redis_errors():
        grant = keyring().find(key) if key else None
    if grant is None and path == SCHEMA:
        return Caller(request_id, models=frozenset())
    if grant is None:
        raise Unauthorized
    timing.record_key(grant.key)
    return Caller(request_id, grant, None if grant.models is None else frozenset(grant.models))


def is_open(method: str, path: str) -> bool:
    """Whether no key is needed there, also where keys are."""
    if path == METRICS:
        return bool(settings.VELO_METRICS == "open")
    leads_to_docs = path == "/" and method in ("GET", "HEAD")  # POST / asks a model
    return leads_to_docs or bool(OPEN.fullmatch(path))


def _key(environ: Mapping[str, Any]) -> str:
    """Empty if there is none."""
    if bearer := BEARER.fullmatch(environ.get("HTTP_AUTHORIZATION", "").strip()):
        return bearer[1]
    key: str = environ.get("HTTP_X_API_KEY", "")
    return key.strip()

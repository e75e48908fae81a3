"""Grants: what each API key allows, published in Redis, so that no request asks the database."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from workers.broker.connection import connection

KEY = "velo:grants"  # JSON: the grants by the digest of their keys
STAMP = "velo:grants:stamp"  # changes whenever the grants do

Grants = Mapping[str, "Grant"]


@dataclass(frozen=True)
class Grant:
    """What a key's client may do. None: without a limit."""

    client: str
    models: tuple[str, ...] | None = None  # by name
    inputs_per_minute: int | None = None
    tokens_per_day: int | None = None  # a day in UTC
    inputs_at_once: int | None = None  # that wait or are computed
    background: bool = False  # its inputs wait behind interactive inputs
    expires: float | None = None  # Unix seconds
    key: int = 0  # the primary key of its row

    def without_limits(self) -> "Grant":
        """For what was let in already."""
        return replace(self, inputs_per_minute=None, tokens_per_day=None, inputs_at_once=None)

    def may_ask(self, model: str) -> bool:
        return self.models is None or model in self.models


def digest(key: str) -> str:
    """SHA-256 in hexadecimal. A key has 256 random bits, so a slow hash would add nothing."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def publish(grants: Grants) -> None:
    """Raises RedisError."""
    raw = _to_json(grants)
    with connection().pipeline() as pipeline:
        pipeline.set(KEY, raw)
        pipeline.set(STAMP, _stamp_of(raw))
        pipeline.execute()


def are_published(grants: Grants) -> bool:
    """Whether Redis has these grants. Raises RedisError."""
    published = stamp() == _stamp_of(_to_json(grants)).encode()
    return published and bool(connection().exists(KEY))


def _to_json(grants: Grants) -> str:
    return json.dumps({name: asdict(one) for name, one in grants.items()}, sort_keys=True)


def _stamp_of(raw: str) -> str:
    return hashlib.sha256(raw.encode()).hexdigest()


def stamp() -> bytes | None:
    """None if nothing is published. Raises RedisError."""
    return cast(bytes | None, connection().get(STAMP))


def published() -> Grants | None:
    """None if nothing is published, or Redis has lost it. Raises RedisError."""
    raw = cast(bytes | None, connection().get(KEY))
    if raw is None:
        return None
    return {name: _grant(one) for name, one in json.loads(raw).items()}


def _grant(kept: dict[str, Any]) -> Grant:
    """Without what a newer Velo may have added."""
    known = {name: kept[name] for name in Grant.__dataclass_fields__ if name in kept}
    if known.get("models") is not None:
        known["models"] = tuple(known["models"])
    return Grant(**known)

"""The queues as django-rq wants them told: RQ's own, and one for each model version."""

import time
from typing import Any

KNOWN_FOR = 1.0  # seconds for which the names aren't asked for again


class Queues(dict[str, dict[str, Any]]):
    """Versions come and go while we run: their queues, NAME@VERSION, are configured like `default`,
    and listed as RQ lists them."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(default=config)
        self._read_at = -float("inf")

    def __missing__(self, name: str) -> dict[str, Any]:
        if "@" not in name:
            raise KeyError(name)
        return self["default"]

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and "@" in name)

    def items(self) -> Any:
        if time.monotonic() - self._read_at > KNOWN_FOR:
            self._read_at = time.monotonic()
            for name in _names():
                self[name] = self["default"]
        return super().items()


def _names() -> list[str]:
    # Only here: the settings are read before anything that needs them.
    from redis.exceptions import RedisError  # noqa: PLC0415

    from workers.broker.connection import names  # noqa: PLC0415

    try:
        return [name for name in names() if "@" in name]
    except RedisError:
        return []

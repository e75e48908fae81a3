"""Requests as the web server hands them over, for tests of the door without a server."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

HERE = "192.0.2.1"


class Headers:
    """Names and values; a name may come several times. A fake: Granian's own can't be made here."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._pairs = list(pairs)

    def keys(self) -> list[str]:
        return [name for name, _ in self._pairs]

    def items(self) -> list[tuple[str, str]]:
        return [(name, value) for name, value in self._pairs if value.isascii()]


def scope(*headers: tuple[str, str], host: str | None = "localhost", **changes: Any) -> Any:
    """Of a POST to /transform, but for `changes`."""
    found = {
        "http_version": "1.1",
        "method": "POST",
        "path": "/transform",
        "query_string": "",
        "scheme": "http",
        "server": "127.0.0.1:80",
        "client": f"{HERE}:1234",
        "authority": None,
        "headers": Headers([("host", host), *headers] if host is not None else headers),
    }
    return SimpleNamespace(**found | changes)

"""The queues as django-rq's commands look them up: RQ's own, and any of a model version."""

from typing import Any


class Queues(dict[str, dict[str, Any]]):
    """Versions come and go while we run: their queues, NAME@VERSION, are as `default` is."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(default=config)

    def __missing__(self, name: str) -> dict[str, Any]:
        if "@" not in name:
            raise KeyError(name)
        return self["default"]

"""The queues as django-rq's commands look them up: RQ's own, and any of a model version."""

from typing import Any

from django.core.management.base import CommandError


class UnknownQueue(CommandError, KeyError):
    """A sentence for a command line, and a KeyError for code that looks a queue up."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"There is no queue {name!r}. Write default, or a model version as NAME@VERSION."
        )

    def __str__(self) -> str:
        return str(self.args[0])


class Queues(dict[str, dict[str, Any]]):
    """Versions come and go while we run: their queues, NAME@VERSION, are as `default` is."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(default=config)

    def __missing__(self, name: str) -> dict[str, Any]:
        if "@" not in name:
            raise UnknownQueue(name)
        return self["default"]

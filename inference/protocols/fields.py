"""The fields of a request's body, as foreign protocols have them."""

from typing import Any

from inference.choice import Target
from inference.errors import InvalidInput
from workers.predictors.inputs import JSON_TYPES

SHOWN = 40  # characters of a string that is wrong
# As clients say that they leave the choice of the model to the server.
ANY_MODEL = frozenset({"", "default", "default/not-specified"})


def is_count(value: Any) -> bool:
    """Whether it is a whole number, 0 or more."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def wrong(name: str, value: Any, wanted: str) -> InvalidInput:
    """The error for a field of another type."""
    shown = f" {value[:SHOWN]!r}" if isinstance(value, str) else ""
    got = f"{JSON_TYPES[type(value)]}{shown}"
    return InvalidInput(f"{name}: expected {wanted}; got {got}.", param=name)


def not_an_object(body: Any, example: str) -> InvalidInput:
    """The error for a body of another type."""
    return InvalidInput(f"Expected an object, for example {example}; got {JSON_TYPES[type(body)]}.")


def target(model: Any, kinds: frozenset[str], key: str | None = None) -> Target:
    """Of "name", "name@version", or nothing: the default one of the models of these kinds. Raises
    InvalidInput."""
    if not isinstance(model, str | None):
        raise wrong("model", model, "a string")
    if model is None or model in ANY_MODEL:
        return Target(key=key, kinds=kinds)
    name, at, version = model.rpartition("@")
    if not (name and at and version):
        return Target(model, key=key, kinds=kinds)
    return Target(name, version, kinds=kinds)

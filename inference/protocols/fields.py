"""The fields of a request's body, as foreign protocols have them."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings

from inference.choice import Target
from inference.errors import BlankInput, EmptyBatch, InvalidInput, TooManyInputs
from workers.predictors.inputs import JSON_TYPES
from workers.values.blank import SOMETHING

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


def array(name: str, given: Any, wanted: str, most: str = "VELO_MAX_INPUTS") -> list[Any]:
    """The field, which has to be an array of 1 to as many items as the setting `most` says.
    `wanted`: what errors say of it. Raises InvalidInput, EmptyBatch and TooManyInputs."""
    if not isinstance(given, list):
        raise wrong(name, given, wanted)
    if not given:
        raise EmptyBatch(f"{name}: the array is empty. Send at least one string.", param=name)
    limit: int = getattr(settings, most)
    if len(given) > limit:
        raise TooManyInputs(
            f"{name}: {len(given)} strings; at most {limit} are taken. Send them in several "
            f"requests, or raise {most} on the server.",
            param=name,
        )
    return given


def text(name: str, value: Any) -> str:
    """The field, which has to be a string with something in it. Raises InvalidInput and
    BlankInput."""
    if not isinstance(value, str):
        raise wrong(name, value, "a string")
    if not SOMETHING.search(value):
        raise BlankInput(f"{name}: the string is blank. Send some text.", param=name)
    return value


def flag(body: Mapping[str, Any], name: str) -> bool | None:
    """The field, true or false; None where it is absent. Raises InvalidInput."""
    value = body.get(name)
    if not isinstance(value, bool | None):
        raise wrong(name, value, "true or false")
    return value


def dimensions(body: Mapping[str, Any], name: str = "dimensions") -> int | None:
    """To how many numbers a vector is shortened; None: to all. Raises InvalidInput."""
    value = body.get(name)
    if value is not None and not is_count(value):
        raise wrong(name, value, "a whole number")
    return value or None  # some clients send 0


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

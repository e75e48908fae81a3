"""Typed readers of environment variables that fail naming the variable and the cure."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

Number = TypeVar("Number", int, float)


def text(name: str, default: str = "") -> str:
    """The stripped value; `default` if the variable is unset or empty."""
    return os.environ.get(name, "").strip() or default


def choice(name: str, options: tuple[str, ...], default: str) -> str:
    """One of `options`. Raises ImproperlyConfigured."""
    value = text(name, default)
    if value not in options:
        raise ImproperlyConfigured(f"{name}={value!r} is not one of {', '.join(options)}.")
    return value


def boolean(name: str, default: bool = False) -> bool:
    """From 1/true/yes/on or 0/false/no/off. Raises ImproperlyConfigured."""
    value = text(name, "1" if default else "0").lower()
    if value in ("1", "true", "yes", "on"):
        return True
    if value in ("0", "false", "no", "off"):
        return False
    raise ImproperlyConfigured(f"{name}={value!r} is not a yes or a no: set it to 1 or 0.")


def integer(name: str, default: int, minimum: int = 0) -> int:
    """A whole number of at least `minimum`. Raises ImproperlyConfigured."""
    return _number(name, int, default, minimum, "a whole number")


def seconds(name: str, default: float, minimum: float = 0.001) -> float:
    """A number of seconds of at least `minimum`. Raises ImproperlyConfigured."""
    return _number(name, float, default, minimum, "a number of seconds")


def share(name: str, default: float) -> float:
    """A number from 0 to 1. Raises ImproperlyConfigured."""
    value = _number(name, float, default, 0.0, "a number from 0 to 1,")
    if value > 1:
        raise ImproperlyConfigured(f"{name}={text(name)!r} is not a number from 0 to 1.")
    return value


def url(name: str, default: str, schemes: tuple[str, ...]) -> str:
    """Its value may hold a password, so it isn't repeated."""
    value = text(name, default)
    try:
        parts = urlsplit(value)
        good = parts.scheme in schemes and parts.port != 0  # reading the port checks it
    except ValueError:
        good = False
    if not good:
        raise ImproperlyConfigured(
            f"{name} is not a URL that begins with {', '.join(f'{it}://' for it in schemes)}. In a "
            "password write all but letters, digits and -._~ as %XX."
        ) from None
    return value


def words(name: str, default: str = "") -> list[str]:
    """The comma-separated words, without blanks and empty words."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def folders(name: str, default: str = "") -> list[Path]:
    """They need not be there: on this machine nobody may read them."""
    found = [Path(word) for word in words(name, default)]
    if not all(folder.is_absolute() and ".." not in folder.parts for folder in found):
        raise ImproperlyConfigured(
            f"{name}={text(name, default)!r} is not a list of absolute folders: write it as "
            "/srv/models,/mnt/models, with commas."
        )
    return found


def integers(name: str, default: str) -> list[int]:
    """Comma-separated whole numbers from 0 up. Raises ImproperlyConfigured."""
    try:
        numbers = [int(word) for word in words(name, default)]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0:
        raise ImproperlyConfigured(
            f"{name}={text(name, default)!r} is not a list of whole numbers from 0 up: "
            f"write it as {default}, with commas."
        )
    return numbers


def _number(
    name: str, parse: Callable[[str], Number], default: Number, minimum: Number, kind: str
) -> Number:
    raw = text(name, str(default))
    value: Number | None = None
    with suppress(ValueError):
        value = parse(raw)
    # `not >=` also refuses NaN.
    if value is None or not value >= minimum or value == float("inf"):
        raise ImproperlyConfigured(f"{name}={raw!r} is not {kind} from {minimum} up.")
    return value

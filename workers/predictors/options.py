"""A version's options: what its kind knows of them, and of which type they have to be."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from workers.predictors.protocol import ModelError, Spec

NAMES = {str: "a string", bool: "true or false", int: "a whole number", float: "a number"}


def checked(spec: Spec, known: Mapping[str, type]) -> dict[str, Any]:
    """The options that are given, each of its type. Raises ModelError for any other."""
    if not isinstance(spec.options, Mapping):
        raise ModelError(f"The options of {spec.label} aren't a JSON object.")
    for name, value in spec.options.items():
        if name not in known:
            raise ModelError(
                f"{spec.label} has the option {name!r}; the kind {spec.kind!r} knows "
                f"{', '.join(sorted(known)) or 'none'}."
            )
        # In Python True is a whole number too.
        fits = (int, float) if known[name] is float else known[name]
        if not isinstance(value, fits) or (known[name] is not bool and isinstance(value, bool)):
            raise ModelError(
                f"The option {name!r} of {spec.label} is {value!r}; it has to be "
                f"{NAMES[known[name]]}."
            )
    return dict(spec.options)


def choice(spec: Spec, name: str, value: str, known: Collection[str]) -> str:
    """Raises ModelError if `value` isn't in `known`."""
    if value not in known:
        raise ModelError(
            f"The option {name!r} of {spec.label} is {value!r}; it has to be one of "
            f"{', '.join(known)}."
        )
    return value


def folder(spec: Spec) -> Path:
    """The version's, where its kind needs one. Raises ModelError."""
    if spec.folder is None:
        raise ModelError(f"{spec.label} has no folder; the kind {spec.kind!r} needs one.")
    return spec.folder

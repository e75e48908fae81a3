"""What holds for a vector as an answer."""

from typing import Any

import numpy


def problem(output: Any, dimensions: int) -> str:
    """What is wrong with it; empty if nothing is."""
    try:
        found = numpy.asarray(output, dtype=numpy.float32)
    except (TypeError, ValueError):
        return f"not a vector, but {type(output).__name__}"
    if found.shape != (dimensions,):
        return f"numbers of the shape {found.shape}, not {(dimensions,)}"
    if not numpy.isfinite(found).all():
        return "numbers that are infinite or not numbers"
    return ""

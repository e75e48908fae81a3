"""Vectors on their way out."""

import numpy
from numpy.typing import NDArray

from inference.errors import InvalidInput
from workers.values.prediction import Prediction

Vector = NDArray[numpy.float32]  # shape (dimensions,)
LEAST = 1e-12  # the length by which a shorter vector is divided


def of(prediction: Prediction) -> Vector:
    """An older worker sends a list."""
    return numpy.asarray(prediction.output, numpy.float32)


def scaled(vector: Vector) -> Vector:
    """To length 1."""
    return vector / max(float(numpy.linalg.norm(vector)), LEAST)


def shortened(vector: Vector, dimensions: int | None, *, scale: bool = True) -> Vector:
    """Its first numbers, scaled to length 1 again. Raises InvalidInput where it has fewer."""
    if dimensions is None or dimensions == len(vector):
        return vector
    if dimensions > len(vector):
        raise InvalidInput(
            f"dimensions: the model's vectors have {len(vector)} numbers; got {dimensions}.",
            param="dimensions",
        )
    part = vector[:dimensions]
    return scaled(part) if scale else part

"""Vectors on their way out."""

from typing import Any

import numpy
from numpy.typing import NDArray

from inference.errors import InvalidInput
from workers.values.prediction import Prediction

Vector = NDArray[numpy.float32]  # shape (dimensions,)
LEAST = 1e-12  # the length by which a shorter vector is divided
FLOAT = "float"
# As Voyage, Mistral and Cohere name them.
DTYPES = (FLOAT, "int8", "uint8", "binary", "ubinary")
INT8 = 127  # what the number 1 becomes
OFFSET = 128  # between a signed and an unsigned number


def of(prediction: Prediction) -> Vector:
    """An older worker sends a list."""
    return numpy.asarray(prediction.output, numpy.float32)


def typed(vector: Vector, dtype: str) -> NDArray[Any]:
    """In one of DTYPES. int8 and uint8: each number times 127, rounded, for vectors of length 1.
    binary and ubinary: a bit for each number, 1 where it is above 0, eight in a number, the first
    the highest; binary is shifted by 128, as sentence-transformers does."""
    if dtype == FLOAT:
        return vector
    if dtype.endswith("binary"):
        unsigned = numpy.packbits(vector > 0)
    else:
        whole = numpy.clip(numpy.rint(vector * INT8), -OFFSET, OFFSET - 1)
        unsigned = (whole + OFFSET).astype(numpy.uint8)
    if dtype.startswith("u"):
        return unsigned
    return (unsigned.astype(numpy.int16) - OFFSET).astype(numpy.int8)


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

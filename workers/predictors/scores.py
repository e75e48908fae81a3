"""From logits to scores."""

import numpy
from numpy.typing import NDArray

from workers.predictors.engines import Outputs

Scores = NDArray[numpy.float64]


def softmax(logits: Outputs) -> Scores:
    """Over the last axis."""
    shifted = logits.astype(numpy.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    raised = numpy.exp(shifted)
    return raised / raised.sum(axis=-1, keepdims=True)


def sigmoid(logits: Outputs) -> Scores:
    """Of each logit by itself."""
    return numpy.exp(-numpy.logaddexp(0, -logits.astype(numpy.float64)))

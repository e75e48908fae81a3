"""A version that is let go of takes no memory any more, however often that happens."""

import os
from typing import Any

import pytest

from tests.stack import resident_megabytes
from workers import predictors


def loaded_and_closed() -> tuple[float, float]:
    """Megabytes of this process before and after."""
    predictor = predictors.load(predictors.declared(), 2)
    predictor.predict(predictor.encode(["word " * 200] * 8))
    held = resident_megabytes(os.getpid())
    predictor.close()
    return held, resident_megabytes(os.getpid())


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_it_comes_back(settings: Any, engine: str) -> None:
    settings.VELO_ENGINE, settings.VELO_DTYPE = engine, "fp32"
    loaded_and_closed()  # libraries and their buffers, which stay
    _, before = loaded_and_closed()
    for _ in range(3):
        held, after = loaded_and_closed()
        assert held - after > 50  # the weights are 90 MB
    assert after - before < 30  # kept, they would be 270

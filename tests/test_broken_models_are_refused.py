"""A folder that can't be right is refused when it is loaded, with what is wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForSequenceClassification, BertForTokenClassification, BertModel

from tests.models import headed, spec
from workers import predictors
from workers.predictors import ModelError
from workers.predictors.engines import openvino

HEADS = {
    "embed": BertModel,
    "classify": BertForSequenceClassification,
    "rerank": BertForSequenceClassification,
    "ner": BertForTokenClassification,
}


@pytest.fixture(params=sorted(HEADS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(kind: str, tmp_path: Path) -> Path:
    return headed(tmp_path / "model", HEADS[kind], ["one"])


def change(path: Path, change_tensors: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(path / "model.safetensors")
    change_tensors(tensors)
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})


def refusal(path: Path, kind: str) -> str:
    with pytest.raises(ModelError) as refused:
        predictors.load(spec(path, kind), 2)
    return str(refused.value)


@pytest.mark.parametrize("bad", ["nan", "inf"])
def test_weights_that_are_no_numbers(model: Path, kind: str, bad: str) -> None:
    def poison(tensors: dict[str, torch.Tensor]) -> None:
        next(tensor for name, tensor in tensors.items() if "layer.1" in name)[0] = float(bad)

    change(model, poison)
    said = refusal(model, kind)
    assert "hold numbers that are infinite or not numbers" in said
    assert "layer.1" in said
    assert "VELO_ENGINE" not in said


def test_weights_that_come_to_no_number(model: Path, kind: str) -> None:
    def swell(tensors: dict[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            if "layer.1.output.LayerNorm.weight" in name:
                tensor[:] = 3e38

    change(model, swell)
    said = refusal(model, kind)
    assert "infinite or not a number" in said
    assert "VELO_ENGINE" not in said


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
def test_half_a_file(model: Path, kind: str, kept: float) -> None:
    weights = model / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: int(len(content) * kept)])
    said = refusal(model, kind)
    assert str(model) in said
    assert "Download its files again" in said


@pytest.mark.parametrize("first", [b"\xff" * 8, b"\x00" * 8, b"<html><body>Not found"])
def test_a_file_that_is_something_else(model: Path, kind: str, first: bytes) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(first + weights.read_bytes()[len(first) :])
    assert "can't be loaded" in refusal(model, kind)


def test_a_model_without_the_head_that_its_kind_needs(tmp_path: Path) -> None:
    plain = headed(tmp_path, BertModel, ["one"])
    for kind in ("classify", "rerank", "ner"):
        said = refusal(plain, kind)
        assert "the first being classifier.bias" in said
        assert f"of another kind than '{kind}'" in said


def test_a_reranker_with_more_than_one_label(tmp_path: Path) -> None:
    two = headed(tmp_path, BertForSequenceClassification, ["one", "two"])
    assert "Serve it as the kind 'classify'" in refusal(two, "rerank")


@pytest.mark.parametrize("content", ["[]", "{", '{"model_type": "bert", "vocab_size": 3}', "null"])
def test_a_config_that_is_something_else(model: Path, kind: str, content: str) -> None:
    (model / "config.json").write_text(content)
    assert "can't be loaded" in refusal(model, kind)


@pytest.mark.parametrize("content", ["{}", "7", '["Pooling"]', '[{"type": "a.Pooling"}]'])
def test_modules_that_are_something_else(tmp_path: Path, content: str) -> None:
    headed(tmp_path, BertModel, ["one"])
    (tmp_path / "modules.json").write_text(content)
    assert refusal(tmp_path, "embed")


@pytest.mark.parametrize("path", ["..", "/", "a/../../model2"])
def test_modules_outside_the_folder(tmp_path: Path, path: str) -> None:
    headed(tmp_path, BertModel, ["one"])
    modules = [{"type": "a.Transformer", "path": path}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    assert "outside the folder" in refusal(tmp_path, "embed")


def test_a_tokenizer_with_more_words_than_the_model(tmp_path: Path) -> None:
    headed(tmp_path, BertModel, ["one"])
    change(
        tmp_path,
        lambda tensors: tensors.update({"embeddings.word_embeddings.weight": torch.zeros(50, 64)}),
    )
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"vocab_size": 50}))
    assert "The model fails on a plain text: IndexError" in refusal(tmp_path, "embed")


def test_what_is_kept_of_a_model_is_of_its_kind_and_pooling(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VELO_ENGINE, settings.VELO_DTYPE, settings.VELO_VAR = "openvino", "fp32", tmp_path
    conversions = []
    convert = openvino._convert

    def counted(graph: Any) -> Any:
        conversions.append(graph.name)
        return convert(graph)

    monkeypatch.setattr(openvino, "_convert", counted)
    path = headed(tmp_path / "model", BertForSequenceClassification, ["one"])
    for _ in range(2):
        predictors.load(spec(path, "embed"), 2)
        predictors.load(spec(path, "embed", pooling="mean"), 2)
        predictors.load(spec(path, "classify"), 2)
        predictors.load(spec(path, "rerank"), 2)
    assert conversions == ["embed-cls", "embed-mean", "scored", "scored-3"]
    kept = [path.parent.name for path in (tmp_path / "openvino").glob("*/*/model.xml")]
    assert sorted(kept) == sorted(conversions)

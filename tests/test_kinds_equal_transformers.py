"""Classifying, reranking and finding entities: what plain transformers compute."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForSequenceClassification,
    BertForTokenClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
    pipeline,
)

from tests.models import headed, spec
from tests.texts import SENTENCES
from workers import predictors
from workers.predictors import Predictor
from workers.predictors.rerank import RerankPredictor

CLOSE = 1e-4
THREADS = 2
COLOURS = ("red", "green", "blue")
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
ENTITIES = [
    *SENTENCES,
    "Ада Лавлейс 🙂 живёт в Лондоне, а Ёлка — в Санкт-Петербурге.",
    "👩‍👩‍👧‍👦 José Ångström\tmet 李白 in São Paulo\n\n",
    "e\u0301crit par Zoë",
]


@pytest.fixture(params=["torch", "openvino"])
def exact(request: pytest.FixtureRequest, settings: Any) -> Any:
    """Each engine in full precision."""
    settings.VELO_ENGINE, settings.VELO_DTYPE = request.param, "fp32"
    return settings


def load(path: Path, kind: str, **options: Any) -> Predictor:
    return predictors.load(spec(path, kind, **options), THREADS)


def answers(predictor: Predictor, inputs: Sequence[Any]) -> list[Any]:
    """Of one model call, each looked at for problems as well."""
    found = list(predictor.predict(predictor.encode(inputs)))
    assert [predictor.problem(*pair) for pair in zip(inputs, found, strict=True)] == [""] * len(
        found
    )
    return found


@lru_cache(maxsize=1)
def reference(path: Path) -> tuple[Any, Any]:
    """Tokenizer and model."""
    model = AutoModelForSequenceClassification.from_pretrained(path).eval()
    return AutoTokenizer.from_pretrained(path), model


def logits(path: Path, *texts: str) -> torch.Tensor:
    """Of one text, or of a pair."""
    tokenizer, model = reference(path)
    with torch.inference_mode():
        read = tokenizer(*texts, return_tensors="pt", truncation=True, max_length=128)
        return model(**read).logits[0]


@pytest.mark.parametrize(
    ("problem", "labels", "scores"),
    [
        (None, COLOURS, lambda found: found.softmax(0)),
        ("multi_label_classification", COLOURS, torch.sigmoid),
        ("regression", COLOURS[:1], lambda found: found),
        (None, COLOURS[:1], lambda found: found),
    ],
)
def test_every_label_has_its_score(
    exact: Any, tmp_path: Path, problem: Any, labels: Any, scores: Any
) -> None:
    headed(tmp_path, BertForSequenceClassification, labels, problem_type=problem)
    predictor = load(tmp_path, "classify")
    predictor.warm_up()
    for text, answer in zip(SENTENCES, answers(predictor, SENTENCES), strict=True):
        wanted = dict(zip(labels, scores(logits(tmp_path, text)).tolist(), strict=True))
        assert {one["label"]: one["score"] for one in answer} == pytest.approx(wanted, abs=CLOSE)
        assert answer == sorted(answer, key=lambda one: -one["score"])
    assert predictor.encode(["word " * 400])[0].truncated


@pytest.mark.parametrize("raw", [True, False])
def test_texts_are_ranked_by_how_well_they_answer(exact: Any, tmp_path: Path, raw: bool) -> None:
    headed(tmp_path, BertForSequenceClassification, ["relevance"])
    predictor = load(tmp_path, "rerank", raw_scores=raw)
    predictor.warm_up()
    given = [
        {"query": SENTENCES[9], "texts": SENTENCES},
        {"query": SENTENCES[1], "texts": []},
        {"query": "word " * 400, "texts": SENTENCES[:3]},
    ]
    for one, answer in zip(given, answers(predictor, given), strict=True):
        wanted = torch.tensor([logits(tmp_path, str(one["query"]), text) for text in one["texts"]])
        wanted = wanted if raw else wanted.sigmoid()
        found = {ranked["index"]: ranked["score"] for ranked in answer}
        assert found == pytest.approx(dict(enumerate(wanted.tolist())), abs=CLOSE)
        scores = [ranked["score"] for ranked in answer]
        assert scores == sorted(scores, reverse=True)
    assert [one.truncated for one in predictor.encode(given)] == [True, False, True]


def test_a_reranker_without_types_for_its_two_texts_is_served(exact: Any, tmp_path: Path) -> None:
    headed(tmp_path, BertForSequenceClassification, ["relevance"])
    torch.manual_seed(4)
    config = XLMRobertaConfig(
        vocab_size=30522, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=96, max_position_embeddings=130, num_labels=1, initializer_range=0.3,
        pad_token_id=1, type_vocab_size=1,
    )  # fmt: skip
    XLMRobertaForSequenceClassification(config).save_pretrained(tmp_path)
    predictor = load(tmp_path, "rerank", raw_scores=True)
    assert isinstance(predictor, RerankPredictor)
    assert predictor.max_tokens == 128  # not 130: it counts from the padding's number on
    [answer] = answers(predictor, [{"query": "a", "texts": ["b", "word " * 400]}])
    assert len(answer) == 2


def test_one_input_of_many_texts_is_several_calls(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VELO_ENGINE, settings.VELO_BATCH_TOKENS = "torch", 256
    headed(tmp_path, BertForSequenceClassification, ["relevance"])
    predictor = load(tmp_path, "rerank")
    assert isinstance(predictor, RerankPredictor)
    calls: list[int] = []
    forward = predictor.engine.forward
    monkeypatch.setattr(
        predictor.engine,
        "forward",
        lambda *arrays: calls.append(arrays[0].size) or forward(*arrays),
    )
    texts = SENTENCES * 4
    [encoded] = predictor.encode([{"query": "Тест!", "texts": texts}])
    [answer] = predictor.predict([encoded])
    assert len(answer) == len(texts)
    assert max(calls) <= 256
    assert sum(calls) >= encoded.tokens
    assert len(calls) < len(texts) / 2


@pytest.mark.parametrize("aggregation", ["simple", "first"])
def test_entities_are_where_transformers_finds_them(
    exact: Any, tmp_path: Path, aggregation: str
) -> None:
    headed(tmp_path, BertForTokenClassification, TAGS)
    predictor = load(tmp_path, "ner", aggregation=aggregation)
    predictor.warm_up()
    short = [text for text in ENTITIES if len(text) < 200]
    reference = pipeline("ner", str(tmp_path), aggregation_strategy=aggregation)
    found = answers(predictor, short)
    for text, entities in zip(short, found, strict=True):
        wanted = reference(text)
        assert [(one["label"], one["start"], one["end"]) for one in entities] == [
            (one["entity_group"], one["start"], one["end"]) for one in wanted
        ]
        assert [one["score"] for one in entities] == pytest.approx(
            [float(one["score"]) for one in wanted], abs=CLOSE
        )
        assert all(text[one["start"] : one["end"]] == one["text"] for one in entities)
    assert sum(map(len, found)) > len(short)
    cyrillic = next(entities for entities in found[-3:] if entities)
    assert cyrillic[0]["text"]


def test_what_has_the_wrong_form_is_seen(settings: Any, tmp_path: Path) -> None:
    settings.VELO_ENGINE = "torch"
    headed(tmp_path / "c", BertForSequenceClassification, COLOURS)
    headed(tmp_path / "r", BertForSequenceClassification, COLOURS[:1])
    headed(tmp_path / "n", BertForTokenClassification, TAGS)
    classify, rerank = load(tmp_path / "c", "classify"), load(tmp_path / "r", "rerank")
    ner = load(tmp_path / "n", "ner")
    for predictor in (classify, rerank, ner):
        assert answers(predictor, [predictor.sample])
        assert "not a list" in predictor.problem(predictor.sample, None)
    [scores] = answers(classify, ["text"])
    assert "not one for each" in classify.problem("text", scores[1:])
    scores[0]["score"] = float("nan")
    assert "not numbers" in classify.problem("text", scores)
    [ranked] = answers(rerank, [rerank.sample])
    assert "once" in rerank.problem(rerank.sample, [ranked[0], ranked[0]])
    assert "don't fall" in rerank.problem(rerank.sample, ranked[::-1])
    entity = {"label": "PER", "score": 0.5, "start": 0, "end": 3, "text": "Ада"}
    assert ner.problem("Ада", [entity]) == ""
    assert "where its text isn't" in ner.problem("Ада", [entity | {"end": 4}])


def test_an_input_of_another_form_is_refused(settings: Any, tmp_path: Path) -> None:
    settings.VELO_ENGINE = "torch"
    predictor = load(headed(tmp_path, BertForSequenceClassification, COLOURS[:1]), "rerank")
    for wrong in ("text", {"query": "a"}, {"query": 1, "texts": []}, {"query": "a", "texts": [1]}):
        with pytest.raises(predictors.InputError, match="query, a string, and texts"):
            predictor.encode([wrong])
    classify = load(tmp_path, "classify")
    with pytest.raises(predictors.InputError, match="takes a string"):
        classify.encode(["a", 1])

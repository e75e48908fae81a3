"""What a version's options change, and how wrong ones are refused."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import BertForSequenceClassification, BertForTokenClassification, BertModel

from tests.models import headed, spec
from workers import predictors
from workers.predictors import ModelError, Spec, folder, sleep

CLOSE = 1e-5
TEXTS = ["Hello, world!", "Тест!", "How do I reset my password?"]
PROMPTS = {"query": "search for: ", "document": "keep: "}


@pytest.fixture(autouse=True)
def torch_alone(settings: Any) -> None:
    settings.VELO_ENGINE, settings.VELO_DTYPE = "torch", "fp32"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In the layout of transformers."""
    return headed(tmp_path_factory.mktemp("plain"), BertModel, ["one"])


@pytest.fixture(scope="module")
def full(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In the layout of sentence-transformers, with prompts: max pooling, not normalised."""
    encoder = Transformer(str(plain), max_seq_length=64)
    pooling = Pooling(encoder.get_embedding_dimension(), pooling_mode="max")
    saved = SentenceTransformer(
        modules=[encoder, pooling], device="cpu", prompts=PROMPTS, default_prompt_name="document"
    )
    path = tmp_path_factory.mktemp("full")
    saved.save(str(path))
    return path


def embeddings(path: Path, texts: Sequence[str] = TEXTS, **options: Any) -> numpy.ndarray:
    predictor = predictors.load(spec(path, **options), 2)
    found = predictor.predict(predictor.encode(texts))
    assert predictor.dimensions == len(found[0])
    assert not any(predictor.problem(*pair) for pair in zip(texts, found, strict=True))
    return numpy.stack(found)


@pytest.mark.parametrize("pooling", folder.POOLINGS)
def test_pooling_and_normalizing(plain: Path, full: Path, pooling: str) -> None:
    encoder = Transformer(str(plain), max_seq_length=64)
    modules = [encoder, Pooling(encoder.get_embedding_dimension(), pooling_mode=pooling)]
    raw = SentenceTransformer(modules=modules, device="cpu").encode(TEXTS)
    unit = SentenceTransformer(modules=[*modules, Normalize()], device="cpu").encode(TEXTS)
    for path in (plain, full):
        for normalize, wanted in ((False, raw), (True, unit)):
            found = embeddings(path, pooling=pooling, normalize=normalize, prompt="")
            assert numpy.abs(found - wanted).max() <= CLOSE


@pytest.mark.parametrize(
    ("options", "put_before"),
    [
        ({}, PROMPTS["document"]),
        ({"prompt": "query"}, PROMPTS["query"]),
        ({"prompt": "Say: "}, "Say: "),
        ({"prompt": ""}, ""),
    ],
)
def test_a_prompt_by_its_name_or_as_it_is(full: Path, options: Any, put_before: str) -> None:
    wanted = embeddings(full, [put_before + text for text in TEXTS], prompt="")
    assert numpy.array_equal(embeddings(full, **options), wanted)


def test_fewer_dimensions_are_the_first_ones(plain: Path, full: Path) -> None:
    """Matryoshka: normalised again where the model normalises."""
    whole = embeddings(plain)[:, :16]
    wanted = whole / numpy.linalg.norm(whole, axis=1, keepdims=True)
    assert numpy.abs(embeddings(plain, dimensions=16) - wanted).max() <= CLOSE
    assert numpy.array_equal(embeddings(full, dimensions=16), embeddings(full)[:, :16])
    assert numpy.array_equal(embeddings(full, dimensions=64), embeddings(full))


def test_fewer_tokens(full: Path) -> None:
    predictor = predictors.load(spec(full, max_tokens=10), 2)
    [encoded] = predictor.encode(["word " * 20])
    assert (encoded.tokens, encoded.truncated) == (10, True)
    # More than the folder asks for, since the model has positions for them.
    assert predictors.load(spec(full, max_tokens=128), 2).encode(["word " * 200])[0].tokens == 128


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        ("embed", {"colour": "red"}, "knows dimensions, max_tokens, normalize, pooling, prompt"),
        ("embed", {"pooling": "median"}, "one of cls, mean, max, lasttoken"),
        ("embed", {"pooling": ["cls"]}, "has to be a string"),
        ("embed", {"normalize": 1}, "has to be true or false"),
        ("embed", {"dimensions": 65}, "the model has 64. Give a number from 1 to 64"),
        ("embed", {"dimensions": 0}, "Give a number from 1 to 64"),
        ("embed", {"dimensions": True}, "has to be a whole number"),
        ("embed", {"dimensions": "8"}, "has to be a whole number"),
        ("embed", {"max_tokens": 129}, "has to be from 3 to 128"),
        ("embed", {"max_tokens": 2}, "has to be from 3 to 128"),
        ("embed", {"prompt": None}, "has to be a string"),
        ("embed", ["pooling"], "aren't a JSON object"),
        ("classify", {"pooling": "cls"}, "'classify' knows max_tokens"),
        ("rerank", {"raw_scores": "yes"}, "has to be true or false"),
        ("rerank", {"max_tokens": 4}, "has to be from 5 to 128"),
        ("ner", {"aggregation": "most"}, "one of simple, first"),
        ("sleep", {"ms": -1}, "below 0"),
        ("sleep", {"ms": "1"}, "has to be a number"),
        ("classfy", {}, "Velo knows embed, sleep, classify, rerank, ner, sparse, custom"),
        ("folder", {}, "Velo knows embed"),
    ],
)
def test_a_wrong_one_is_refused_with_the_cure(
    tmp_path: Path, plain: Path, kind: str, options: Any, says: str
) -> None:
    path = plain
    if kind in ("classify", "rerank"):
        path = headed(tmp_path, BertForSequenceClassification, ["one"])
    elif kind == "ner":
        path = headed(tmp_path, BertForTokenClassification, ["O", "B-A"])
    with pytest.raises(ModelError, match=says):
        predictors.load(Spec("m", "1", kind, path, "d", options), 1)


def test_a_kind_that_needs_a_folder_says_so() -> None:
    for kind in ("embed", "classify", "rerank", "ner"):
        with pytest.raises(ModelError, match="has no folder"):
            predictors.load(Spec("m", "1", kind), 1)


def test_a_prompt_that_is_not_to_be_pooled_is_refused(full: Path, tmp_path: Path) -> None:
    shutil.copytree(full, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "1_Pooling" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"include_prompt": False}))
    with pytest.raises(ModelError, match="include_prompt"):
        embeddings(tmp_path)
    assert numpy.array_equal(embeddings(tmp_path, prompt=""), embeddings(full, prompt=""))


def test_the_stand_in_sleeps_as_long_as_it_is_told(settings: Any) -> None:
    settings.VELO_SLEEP_MS = 30
    assert sleep.load(Spec("s", "1", "sleep"), 1).seconds == 0.03
    assert sleep.load(Spec("s", "1", "sleep", options={"ms": 0.5}), 1).seconds == 0.0005

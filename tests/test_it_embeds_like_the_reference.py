"""The embedding is the model's real one: what the reference libraries compute."""

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import AutoModel

from tests.models import cls_reference, spec
from tests.stack import Stack, stack
from tests.texts import SENTENCES
from workers import predictors
from workers.predictors import embed, folder

CLOSE = 1e-5
COSINE = 0.999
THREADS = 2


@pytest.fixture(params=["torch", "openvino"])
def exact(request: pytest.FixtureRequest, settings: Any) -> None:
    """Each engine in full precision."""
    settings.VELO_ENGINE, settings.VELO_DTYPE = request.param, "fp32"


def cosines(vectors: list[predictors.Vector], reference: numpy.ndarray) -> numpy.ndarray:
    found = numpy.stack(vectors)
    norms = numpy.linalg.norm(found, axis=1) * numpy.linalg.norm(reference, axis=1)
    return (found * reference).sum(axis=1) / norms


def embeddings(predictor: embed.EmbedPredictor, texts: list[str]) -> list[predictors.Vector]:
    return list(predictor.predict(predictor.encode(texts)))


def difference(vectors: list[predictors.Vector], reference: numpy.ndarray) -> float:
    assert len(vectors) == len(reference)
    return float(numpy.abs(numpy.stack(vectors) - reference).max())


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("at_once", [1, 50])
def test_minilm_equals_sentence_transformers(at_once: int) -> None:
    predictor = embed.load(predictors.declared(), THREADS)
    reference = SentenceTransformer(predictor.source, device="cpu").encode(SENTENCES)
    outputs = [
        output
        for start in range(0, len(SENTENCES), at_once)
        for output in embeddings(predictor, SENTENCES[start : start + at_once])
    ]
    assert difference(outputs, reference) <= CLOSE


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("at_once", [1, 50])
def test_a_four_file_folder_equals_transformers_with_cls(
    founding_model: Path, at_once: int
) -> None:
    predictor = embed.load(spec(founding_model), THREADS)
    outputs = [
        output
        for start in range(0, len(SENTENCES), at_once)
        for output in embeddings(predictor, SENTENCES[start : start + at_once])
    ]
    assert difference(outputs, cls_reference(founding_model, SENTENCES)) <= CLOSE


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("mode", ["cls", "mean", "max", "lasttoken"])
def test_a_sentence_transformers_folder_says_its_own_pooling(
    tiny_model: Path, tmp_path: Path, mode: str
) -> None:
    """Saved by sentence-transformers itself, with no Normalize: what it says wins."""
    encoder = Transformer(str(tiny_model), max_seq_length=64)
    pooling = Pooling(encoder.get_embedding_dimension(), pooling_mode=mode)
    saved = SentenceTransformer(modules=[encoder, pooling], device="cpu")
    saved.save(str(tmp_path))
    predictor = embed.load(spec(tmp_path), THREADS)
    assert predictor.layout == folder.Layout(pooling=mode, normalize=False)
    assert predictor.max_tokens == 64
    texts = SENTENCES[:5] + SENTENCES[-1:]
    assert difference(embeddings(predictor, texts), saved.encode(texts)) <= CLOSE


@pytest.mark.usefixtures("exact")
def test_the_weights_may_stand_in_a_folder_of_their_own(tiny_model: Path, tmp_path: Path) -> None:
    """The older layout of sentence-transformers, with the weights in several files."""
    AutoModel.from_pretrained(tiny_model).save_pretrained(
        tmp_path / "0_Transformer", max_shard_size="50MB"
    )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "0_Transformer" / name).symlink_to(tiny_model / name)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    modules = [("Transformer", "0_Transformer"), ("Pooling", "1_Pooling"), ("Normalize", "")]
    (tmp_path / "modules.json").write_text(
        json.dumps([{"type": f"models.{kind}", "path": path} for kind, path in modules])
    )
    assert (tmp_path / "0_Transformer" / "model.safetensors.index.json").exists()
    outputs = embeddings(embed.load(spec(tmp_path), THREADS), SENTENCES[:5])
    assert difference(outputs, cls_reference(tiny_model, SENTENCES[:5])) <= CLOSE


def test_code_in_a_models_folder_is_never_run(tiny_model: Path, tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    for path in tiny_model.iterdir():
        content = path.read_bytes()
        if path.name in ("config.json", "tokenizer_config.json"):
            wanted = {"AutoConfig": "own.Own", "AutoModel": "own.Own", "AutoTokenizer": ["own.Own"]}
            own = json.loads(content) | {"auto_map": wanted, "model_type": "own"}
            content = json.dumps(own).encode()
        (tmp_path / path.name).write_bytes(content)
    (tmp_path / "own.py").write_text(f"open({str(proof)!r}, 'w').close()")
    with pytest.raises(predictors.ModelError, match="can't be loaded"):
        embed.load(spec(tmp_path), THREADS)
    assert not proof.exists()


def test_the_answer_over_http_is_the_same(velo: Stack, settings: Any) -> None:
    settings.VELO_DTYPE = "fp32"  # as in its workers
    predictor = embed.load(predictors.declared(), THREADS)
    for text in ("Тест!", "Hello, world!", "你好"):
        [vector] = embeddings(predictor, [text])
        answer = velo.transform(text)
        assert answer.status == 200, answer.body
        assert numpy.abs(numpy.array(answer.json) - vector).max() <= CLOSE
        assert numpy.linalg.norm(answer.json) == pytest.approx(1, abs=1e-5)
        assert len(answer.json) == 384


def test_the_folder_of_the_founding_document_is_served(
    founding_model: Path, tmp_path: Path
) -> None:
    with stack(tmp_path, VELO_MODEL_PATH=founding_model) as velo:
        answer = velo.transform("Тест!")
        assert answer.headers["x-velo-model-version"].startswith("rubert-tiny2@")
        reference = cls_reference(founding_model, ["Тест!"])[0]
        assert cosines([numpy.array(answer.json)], reference[None]).min() >= COSINE


def test_a_long_text_is_truncated_and_the_answer_says_so(velo: Stack) -> None:
    assert velo.transform("word " * 400).headers["x-velo-truncated"] == "256"
    assert "x-velo-truncated" not in velo.transform("word " * 100).headers

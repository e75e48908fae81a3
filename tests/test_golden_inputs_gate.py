"""What golden inputs expect comes from the active version or a person, never from the version that
is judged by them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models import cls_reference, tiny
from tests.rows import a_model, a_version
from workers.catalog import lifecycle, sources, trial
from workers.catalog.lifecycle import Refused, State
from workers.models import GoldenInput, ModelVersion, ServedModel
from workers.models.versions import JSON_NULL

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db]

WHY = {"by": "anna", "reason": "better"}


class Says:
    """A model that answers each input with what its folder says."""

    def load(self, folder: Path, threads: int) -> None:
        self._answer = json.loads((folder / "answer.json").read_text())

    def predict(self, inputs: list[Any]) -> list[Any]:
        return [self._answer for _ in inputs]


@pytest.fixture
def root(settings: Any, tmp_path: Path) -> Path:
    settings.VELO_MODEL_ROOTS = [str(tmp_path)]
    settings.VELO_CUSTOM_MODULES = [__name__]
    return tmp_path


@pytest.fixture
def model(root: Path) -> ServedModel:
    return a_model(kind="custom")


def says(model: ServedModel, version: str, answer: Any, root: Path, **fields: Any) -> ModelVersion:
    """A version that answers this and waits for its check, unless `fields` say otherwise."""
    folder = root / version
    folder.mkdir()
    (folder / "answer.json").write_text(json.dumps(answer))
    return of_files(model, version, folder, options={"class": f"{__name__}.Says"}, **fields)


def of_files(model: ServedModel, version: str, folder: Path, **fields: Any) -> ModelVersion:
    kept = {"state": "checking", "source": str(folder), "digest": sources.digest(folder)}
    return a_version(model, version, **{**kept, **fields})


def checked(version: ModelVersion) -> tuple[str, dict[str, list[str]]]:
    """Its state after a check, and the steps: outcome and detail."""
    ModelVersion.objects.filter(pk=version.pk).update(state=State.CHECKING)
    found = trial.run(version.pk)
    found.refresh_from_db()
    return found.state, {one["step"]: [one["outcome"], one["detail"]] for one in found.checks}


def test_garbage_weights_are_rejected_though_nobody_said_what_to_expect(root: Path) -> None:
    model = a_model(kind="embed")
    good = tiny(root / "good", 1)
    of_files(model, "good", good, state="active")
    golden = model.golden_inputs.create(input="Hello!")
    garbage = Path(shutil.copytree(good, root / "garbage"))
    torch.manual_seed(7)
    tensors = load_file(good / "model.safetensors")
    noise = {
        name: torch.randn_like(it) if it.is_floating_point() else it for name, it in tensors.items()
    }
    save_file(noise, garbage / "model.safetensors", metadata={"format": "pt"})

    state, steps = checked(of_files(model, "garbage", garbage))

    assert state == "rejected"
    assert steps["expected answers"] == ["passed", "1 recorded from m@good, the active version"]
    assert steps["golden input 1"][0] == "failed"
    assert "the answer differs from the expected answer: [0]" in steps["golden input 1"][1]
    golden.refresh_from_db()
    assert golden.recorded_from == "m@good"
    numpy.testing.assert_allclose(golden.expected, cls_reference(good, ["Hello!"])[0], atol=0.01)


def test_the_active_versions_answer_is_what_others_must_give(
    model: ServedModel, root: Path
) -> None:
    says(model, "1", [1.0], root, state="active")
    golden = model.golden_inputs.create(input="a")
    assert GoldenInput.objects.unanswered().get() == golden  # SQL's NULL, as it always was
    other, same = says(model, "2", [2.0], root), says(model, "3", [1.001], root)
    assert checked(other)[0] == "rejected"
    golden.refresh_from_db()
    assert (golden.expected, golden.recorded_from) == ([1.0], "m@1")
    state, steps = checked(same)
    assert (state, steps["golden input 1"]) == ("ready", ["passed", "within 0.01"])
    assert "expected answers" not in steps  # there was one
    lifecycle.activate(same, **WHY)


def test_without_an_active_version_nothing_is_compared_and_the_check_says_so(
    model: ServedModel, root: Path
) -> None:
    golden = model.golden_inputs.create(input="a")
    first, second = says(model, "1", [1.0], root), says(model, "2", [2.0], root)
    for version in (first, second):
        state, steps = checked(version)
        assert state == "ready"
        assert steps["golden input 1"] == [
            "skipped",
            "nothing to compare with: no active version; give an expected answer",
        ]
    golden.refresh_from_db()
    assert (golden.expected, golden.recorded_from) == (None, "")

    change = lifecycle.activate(first, **WHY)  # the very first one may be
    lifecycle.cancel(model, by="anna")
    assert change.to_version == first
    ServedModel.objects.update(active=first)
    with pytest.raises(Refused, match="m@2 hasn't been compared with m@1, the active version"):
        lifecycle.activate(second, **WHY)
    assert checked(second)[0] == "rejected"


def test_what_was_checked_before_an_answer_was_recorded_is_checked_again(
    model: ServedModel, root: Path
) -> None:
    model.golden_inputs.create(input="a")
    early, late = says(model, "early", [2.0], root), says(model, "late", [1.0], root)
    assert checked(early)[0] == "ready"
    says(model, "1", [1.0], root, state="active")
    assert checked(late)[0] == "ready"
    with pytest.raises(Refused, match="newer than the check of m@early"):
        lifecycle.activate(early, **WHY)
    lifecycle.activate(late, **WHY)


def test_null_is_an_answer_too(model: ServedModel, root: Path) -> None:
    says(model, "1", None, root, state="active")
    golden = model.golden_inputs.create(input="a")
    assert checked(says(model, "2", [1.0], root))[0] == "rejected"
    golden.refresh_from_db()
    assert (golden.expected, golden.recorded_from) == (None, "m@1")
    assert not golden.is_unanswered()
    state, steps = checked(says(model, "3", None, root))
    assert (state, steps["golden input 1"][0]) == ("ready", "passed")


def test_a_recorded_answer_isnt_recorded_again(model: ServedModel) -> None:
    given = model.golden_inputs.create(input="a", expected=JSON_NULL)
    given.record([1.0], "m@1")
    given.refresh_from_db()
    assert (given.expected, given.recorded_from) == (None, "")


def test_a_version_is_not_rejected_for_what_the_active_one_cannot_do(
    model: ServedModel, root: Path
) -> None:
    active = says(model, "1", [1.0], root, state="active")
    model.golden_inputs.create(input="a")
    candidate = says(model, "2", [1.0], root)
    shutil.rmtree(active.source)
    assert checked(candidate)[0] == "registered"
    candidate.refresh_from_db()
    assert candidate.reason.startswith("expected answers: ")
    assert "does not exist" in candidate.reason
    assert GoldenInput.objects.unanswered().exists()

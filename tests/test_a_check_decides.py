"""What a check finds decides whether a version becomes ready: each step, in this process."""

from typing import Any

import pytest

from tests.rows import a_model, a_version
from workers.catalog import trial
from workers.catalog.lifecycle import Refused, State
from workers.models import GoldenInput, ModelVersion
from workers.predictors import sleep

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db(transaction=True)]

MB = 1024 * 1024


@pytest.fixture
def version() -> ModelVersion:
    """Of the kind that only sleeps: its check has been asked for."""
    return a_version(a_model(kind="sleep"), state="checking", dimensions=0)


def outcome(version: ModelVersion) -> tuple[str, str]:
    """The state and the reason after its check."""
    trial.run(version.pk)
    version.refresh_from_db()
    return version.state, version.reason


def expect(version: ModelVersion, given: str, expected: Any, tolerance: float = 0.01) -> None:
    GoldenInput.objects.create(
        model=version.model, input=given, expected=expected, tolerance=tolerance
    )


def answer(text: str) -> list[float]:
    found: list[float] = sleep.vector(text).tolist()
    return found


def test_a_version_that_passes_each_step_is_ready(version: ModelVersion) -> None:
    expect(version, "a", answer("a"))
    assert outcome(version) == ("ready", "")
    assert version.dimensions == sleep.DIMENSIONS
    assert {step["outcome"] for step in version.checks} == {"passed"}
    assert "golden input 1" in [step["step"] for step in version.checks]


@pytest.mark.parametrize("state", [state for state in State if state != State.CHECKING])
def test_a_version_whose_check_nobody_asked_for_is_left_alone(
    version: ModelVersion, state: State
) -> None:
    """An old job, say: its version may serve by now, or may have been rejected."""
    ModelVersion.objects.update(state=state, reason="as it was")
    with pytest.raises(Refused, match="nobody asked for its check"):
        trial.run(version.pk)
    version.refresh_from_db()
    assert (version.state, version.reason, version.checks) == (state, "as it was", [])


def test_one_answer_that_differs_rejects_it(version: ModelVersion) -> None:
    expect(version, "a", answer("a"))
    expect(version, "b", answer("not b"))
    state, reason = outcome(version)
    assert state == "rejected"
    assert "golden input 2" in reason


@pytest.mark.parametrize(("tolerance", "state"), [(0.02, "ready"), (0.005, "rejected")])
def test_an_answer_may_differ_by_its_tolerance(
    version: ModelVersion, tolerance: float, state: str
) -> None:
    first, *others = answer("a")
    expect(version, "a", [first + 0.01, *others], tolerance)
    assert outcome(version)[0] == state


@pytest.mark.parametrize(("grown", "state"), [(10 * MB, "ready"), (10 * MB + 1, "rejected")])
def test_it_may_take_the_memory_that_a_worker_may_hold(
    version: ModelVersion, settings: Any, monkeypatch: pytest.MonkeyPatch, grown: int, state: str
) -> None:
    """The size of the process is made up: no real model grows by a given number of bytes."""
    settings.VELO_WORKER_MEMORY_MB = 10
    sizes = iter([5 * MB, 5 * MB + grown])
    monkeypatch.setattr("workers.catalog.trial.machine.resident", lambda: next(sizes))
    assert outcome(version)[0] == state
    assert ("VELO_WORKER_MEMORY_MB" in version.reason) == (state == "rejected")


@pytest.mark.parametrize("step", ["load", "warm_up", "predict", "problem"])
def test_whatever_goes_wrong_is_the_reason_of_its_rejection(
    version: ModelVersion, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Raised, or found in the form of an answer."""

    def wrong(*args: Any) -> str:
        if step == "problem":
            return "it is too odd"
        raise ValueError("it is too odd")

    owner = sleep if step == "load" else sleep.SleepPredictor
    monkeypatch.setattr(owner, step, wrong)
    state, reason = outcome(version)
    assert state == "rejected"
    assert "it is too odd" in reason
    assert version.checks[-1]["outcome"] == "failed"

"""Which versions a worker shall hold, by the plan and what it was told; and whether they fit."""

from typing import Any, cast

import pytest

from tests.answering import model, plan_of
from workers.catalog.plan import Plan, Share
from workers.predictors import Spec
from workers.runtime.holdings import Held, State, fits, serves_declared, wanted
from workers.runtime.runner import Runner

OWN = Spec("m", "own", "embed")  # what it was started with
MB = 1024 * 1024


def test_without_a_plan_it_holds_what_it_was_started_with() -> None:
    assert wanted(None, OWN) == ["m@own"]
    assert wanted(Plan(), OWN) == ["m@own"]
    assert wanted(None, None) == []


def test_what_a_person_has_activated_takes_the_place_of_what_it_was_started_with() -> None:
    plan = plan_of(model("m", "own", "1", active="1"))
    assert wanted(plan, OWN) == ["m@1"]
    assert not serves_declared(plan, OWN)
    assert wanted(plan_of(model("m", "own", active="own")), OWN) == ["m@own"]


def test_where_the_environment_decides_each_worker_has_its_own() -> None:
    plan = plan_of(model("m", "own", "other", follows_environment=True, active="other"))
    assert wanted(plan, OWN) == ["m@own"]
    assert serves_declared(plan, OWN)
    elsewhere = plan_of(model("n", "1", follows_environment=True, active="1"))
    assert wanted(elsewhere, OWN) == ["m@own"]


def test_a_version_that_is_to_follow_the_environments_is_held_beside_it() -> None:
    plan = plan_of(
        model("m", "own", "1", follows_environment=True, active="own", target="1"),
    )
    assert wanted(plan, OWN) == ["m@own", "m@1"]


def test_what_serves_comes_first_and_the_default_model_before_all() -> None:
    plan = plan_of(
        model(
            *("m", "1", "2", "3", "4"),
            active="1",
            target="2",
            canary=Share("3", 10),
            shadow=Share("4", 100),
        ),
        model("a", "1", active="1"),
    )
    assert wanted(plan, None) == ["m@1", "m@2", "m@3", "m@4", "a@1"]


def test_one_version_in_two_roles_is_held_once() -> None:
    plan = plan_of(
        model("m", "1", "2", active="1", canary=Share("2", 1), shadow=Share("2", 1), target="2")
    )
    assert wanted(plan, None) == ["m@1", "m@2"]


def test_who_has_named_versions_holds_those_and_no_others() -> None:
    plan = plan_of(model("m", "1", "2", active="1"))
    assert wanted(plan, None, ["m@2", "n@7"], follows=False) == ["m@2", "n@7"]


def held(**megabytes: int | None) -> dict[str, Held]:
    loaded = cast(Runner, object())
    return {
        name: Held(name, None if size is None else size * MB, State.READY, runner=loaded)
        for name, size in megabytes.items()
    }


@pytest.mark.parametrize(
    ("budget", "others", "size", "found"),
    [
        (0, {"a": 10_000}, 10_000, True),  # no limit
        (100, {}, 100, True),
        (100, {}, 101, False),
        (100, {"a": 60}, 40, True),
        (100, {"a": 60}, 41, False),
        (100, {"a": 50, "b": 50}, 1, False),
        (100, {"a": None}, 100, True),  # what nobody has measured counts for nothing
        (100, {"a": 60}, None, True),
    ],
)
def test_what_is_known_to_be_too_much_does_not_fit(
    settings: Any, budget: int, others: dict[str, int | None], size: int | None, found: bool
) -> None:
    settings.VELO_WORKER_MEMORY_MB = budget
    assert fits(held(**others), None if size is None else size * MB) is found


def test_what_is_not_loaded_takes_no_memory(settings: Any) -> None:
    settings.VELO_WORKER_MEMORY_MB = 100
    waiting = {"a": Held("a", 100 * MB, State.WAITING)}
    assert fits(waiting, 100 * MB)

"""Which version a request goes to, as a decision: no Redis, no clock, no luck."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from inference.choice import Known, Point, Route, Target, choose, unanswered
from inference.errors import NotServing, NoWorker, UnknownModel, UnknownVersion
from inference.routing import Draws
from tests.answering import model, plan_of
from workers.catalog.plan import Plan, PlannedModel, Share

DEFAULT = Target()
LOW, HIGH = Point(0.0, 0.0, 0.0), Point(0.99, 0.99, 0.99)


def known(*models: PlannedModel, **counts: int) -> Known:
    """Models "a", "b"…; `a_1=2`: two workers serve a@1, and were started with it."""
    labels = {name.replace("_", "@"): count for name, count in counts.items()}
    return Known(plan_of(*models), labels, labels)


def label(found: Known, asked: Target = DEFAULT, point: Point = LOW, without: str = "") -> str:
    return choose(found, asked, lambda _: point, {without}).label


def canary(percent: int) -> Known:
    return known(model("a", "1", "2", active="1", canary=Share("2", percent)), a_1=1, a_2=1)


def test_the_default_model_answers_with_its_active_version() -> None:
    found = known(model("a", "1", "2", active="2"), model("b", "1", active="1"), a_1=1, b_1=1)
    assert label(found) == "a@2"
    assert label(found, Target("b")) == "b@1"


def test_a_model_that_follows_the_environment_answers_with_what_workers_were_started_with() -> None:
    found = known(model("a", "1", "2", follows_environment=True, active="2"), a_1=1)
    assert label(found) == "a@1"


def test_old_and_new_workers_answer_side_by_side_by_how_many_they_are() -> None:
    old = model("old", "1", follows_environment=True)
    new = model("new", "1", follows_environment=True)
    activated = model("set", "1", active="1")
    found = known(old, new, activated, old_1=3, new_1=1, set_1=5)
    draws = Draws()
    got = Counter(choose(found, DEFAULT, draws).label for _ in range(10_000))
    assert got["old@1"] == pytest.approx(7500, abs=10)
    assert got["new@1"] == pytest.approx(2500, abs=10)
    assert label(found, Target("new"), HIGH) == "new@1"


def test_what_the_database_has_not_heard_of_yet_answers_too() -> None:
    found = known(model("a", "1", follows_environment=True, kind="classify"), new_1=1)
    route = choose(found, DEFAULT, lambda _: LOW)
    assert (route.label, route.kind) == ("new@1", "classify")
    unheard = Known(found.plan, {"a@2": 1})
    assert label(unheard, Target("a", "2")) == "a@2"


def test_nothing_declared_leaves_the_active_one() -> None:
    assert label(known(model("a", "1", follows_environment=True, active="1"))) == "a@1"


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (Known(), "No live worker"),
        (Known(Plan()), "No model is the default"),
        (Known(Plan(), failed_start="The folder is gone."), "The folder is gone"),
        (
            Known(plan_of(model("a", "1")), failed_start="The folder is gone."),
            "No live worker holds a model: The folder is gone",
        ),
        (known(model("a", "1")), "a has no active version"),
        (known(model("a", "1", follows_environment=True)), "a has no active version"),
    ],
)
def test_no_worker(found: Known, says: str) -> None:
    with pytest.raises(NoWorker, match=says):
        label(found)


def test_an_unknown_model_is_told_of_the_known_ones() -> None:
    with pytest.raises(UnknownModel, match=r"'c'\. Known: a, b\."):
        label(known(model("b"), model("a")), Target("c"))
    many = [model(f"m{number:02}") for number in range(30)]
    with pytest.raises(UnknownModel, match=r"m18, m19 and 10 more\."):
        label(known(*many), Target("x" * 10_000))


def test_a_model_that_nobody_serves_is_told_so() -> None:
    found = known(model("a", "1"), model("b", "1", "2"), b_2=1)
    with pytest.raises(NotServing, match=r"b has no active version.*own address: 2\."):
        label(found, Target("b"))


def test_a_pinned_version_answers_whatever_is_active() -> None:
    found = known(model("a", "1", "2", active="1", canary=Share("1", 99)), a_1=1, a_2=1)
    route = choose(found, Target("a", "2"), lambda _: LOW)
    assert route == Route("a@2", "embed", pinned=True)


def test_a_pinned_version_that_is_unknown_is_told_of_the_known_ones() -> None:
    with pytest.raises(UnknownVersion, match=r"no version '3'\. Known: 1 \(ready\), 2 \(ready\)"):
        label(known(model("a", "1", "2")), Target("a", "3"))


def test_a_pinned_version_that_nobody_serves_is_told_who_does() -> None:
    found = known(model("a", "1", "2", active="2"), a_2=1)
    with pytest.raises(NotServing, match=r"a@1 \(it is ready\).*served: 2\..*activate it"):
        label(found, Target("a", "1"))


def test_who_lost_a_pinned_version_is_told_whether_others_serve() -> None:
    found = known(model("a", "1", "2"), a_1=1, a_2=1)
    assert isinstance(unanswered(found, "a@1"), NotServing)
    assert isinstance(unanswered(known(model("a", "1", "2"), a_1=1), "a@1"), NoWorker)


# --- shares -----------------------------------------------------------------------------------


def test_a_canary_gets_its_share_closely() -> None:
    found, draws = canary(10), Draws()
    got = Counter(choose(found, DEFAULT, draws).label for _ in range(10_000))
    assert got["a@2"] / 10_000 == pytest.approx(0.1, abs=0.001)


def test_the_share_is_met_whoever_else_is_asked_in_between() -> None:
    found, draws = canary(10), Draws()
    both = Known(plan_of(*found.plan.models.values(), model("b", active="1")), found.holders)  # type: ignore[union-attr]
    got = Counter[str]()
    for _ in range(10_000):
        got[choose(both, DEFAULT, draws).label] += 1
        choose(both, Target("b"), draws)
    assert got["a@2"] / 10_000 == pytest.approx(0.1, abs=0.001)


def test_the_share_is_met_by_many_threads_together() -> None:
    found, draws = canary(10), Draws()
    with ThreadPoolExecutor(8) as threads:
        got = Counter(threads.map(lambda _: choose(found, DEFAULT, draws).label, range(10_000)))
    assert got["a@2"] / 10_000 == pytest.approx(0.1, abs=0.001)


def test_a_key_always_gets_the_same_version_and_keeps_the_canary_when_its_share_grows() -> None:
    def of(percent: int) -> set[str]:
        """The keys that the canary answers, whatever is drawn."""
        found = canary(percent)
        keys = [f"user {number}" for number in range(10_000)]
        got, again = (
            {key for key in keys if label(found, Target(key=key), point) == "a@2"}
            for point in (LOW, HIGH)
        )
        assert got == again
        assert len(got) / len(keys) == pytest.approx(percent / 100, abs=0.01)
        return got

    assert of(10) < of(50)


@pytest.mark.parametrize(
    ("name", "key", "drawn"),
    [
        ("a", "user 1", 0.249144941075602),
        ("b", "user 1", 0.899930142299806),
        ("a", "ключ", 0.672706995544086),
        ("a", "", 0.303966230776237),
    ],
)
def test_a_key_is_drawn_alike_in_every_process_and_release(
    name: str, key: str, drawn: float
) -> None:
    """Values that `b2sum -l 64` gives: Python's own hash differs in each process."""
    route = choose(known(model(name, active="1")), Target(key=key), Draws())
    assert route.drawn == pytest.approx(drawn, abs=1e-12)


def test_a_key_chooses_alike_between_old_and_new_workers_in_every_process() -> None:
    found = known(model("a", "1", "2", follows_environment=True), a_1=1, a_2=1)
    assert (
        "".join(label(found, Target(key=str(number)))[-1] for number in range(16))
        == "1211221112112111"
    )


def test_keys_are_shared_out_anew_for_each_model() -> None:
    draws = [
        choose(known(model(name, active="1")), Target(key="k"), Draws()).drawn for name in "ab"
    ]
    assert draws[0] != draws[1]


@pytest.mark.parametrize("key", ["", "ключ", "\ud800", "x" * 100_000])
def test_any_key_will_do(key: str) -> None:
    assert 0 <= choose(canary(10), Target(key=key), Draws()).drawn < 1


def test_a_key_keeps_its_version_while_old_and_new_workers_answer_side_by_side() -> None:
    found = known(model("a", "1", "2", follows_environment=True), a_1=1, a_2=1)
    for key in map(str, range(20)):
        assert label(found, Target(key=key), LOW) == label(found, Target(key=key), HIGH)


def test_a_canary_that_nobody_serves_gets_nothing() -> None:
    assert label(known(model("a", "1", "2", active="1", canary=Share("2", 99)), a_1=1)) == "a@1"
    assert label(canary(99), without="a@2") == "a@1"


def shadow(percent: int, version: str = "2", **counts: int) -> Known:
    found = model("a", "1", "2", active="1", shadow=Share(version, percent))
    return known(found, **counts or {"a_1": 1, "a_2": 1})


def test_a_share_ends_where_its_percentage_does() -> None:
    """Draws go from 0 to below 1: half of them are below 0.5."""
    half = Point(0.5, 0.5, 0.5)
    just_below = Point(0.499, 0.499, 0.499)
    assert (label(canary(50), point=just_below), label(canary(50), point=half)) == ("a@2", "a@1")
    assert choose(shadow(50), DEFAULT, lambda _: just_below).shadow == "a@2"
    assert choose(shadow(50), DEFAULT, lambda _: half).shadow is None


def test_the_shares_are_those_of_the_model_that_answers() -> None:
    """Where workers decide, the model that answers needn't be the default one."""
    default = model("a", "1", follows_environment=True, canary=Share("1", 99))
    other = model(
        *("b", "1", "2", "3"),
        follows_environment=True,
        kind="rerank",
        canary=Share("2", 99),
        shadow=Share("3", 99),
    )
    found = known(default, other, b_1=1)
    found = Known(found.plan, {"b@1": 1, "b@2": 1, "b@3": 1}, {"b@1": 1})
    route = choose(found, DEFAULT, lambda _: LOW)
    assert (route.label, route.kind, route.shadow) == ("b@2", "rerank", "b@3")


def test_a_shadow_gets_its_share_independently_of_the_canary() -> None:
    both = model("a", "1", "2", "3", active="1", canary=Share("2", 50), shadow=Share("3", 20))
    found, draws = known(both, a_1=1, a_2=1, a_3=1), Draws()
    routes = [choose(found, DEFAULT, draws) for _ in range(10_000)]
    for answers in ("a@1", "a@2"):
        mine = [route for route in routes if route.label == answers]
        share = sum(route.shadow == "a@3" for route in mine) / len(mine)
        assert share == pytest.approx(0.2, abs=0.01)


def test_no_copy_goes_to_who_answers_or_to_nobody_or_from_who_asks_for_a_version() -> None:
    assert choose(shadow(100), DEFAULT, lambda _: HIGH).shadow == "a@2"
    assert choose(shadow(100, "1"), DEFAULT, lambda _: LOW).shadow is None
    assert choose(shadow(100, a_1=1), DEFAULT, lambda _: LOW).shadow is None
    assert choose(shadow(100), Target("a", "1"), lambda _: LOW).shadow is None


# --- a version that has just gone -------------------------------------------------------------


def test_without_a_version_the_others_answer() -> None:
    found = known(model("a", "1", "2", follows_environment=True), a_1=1, a_2=1)
    assert label(found, without="a@1") == "a@2"
    assert label(found, without="a@2") == "a@1"


def test_without_the_last_one_there_is_no_worker() -> None:
    for found in (
        known(model("a", "1", active="1"), a_1=1),
        known(model("a", "1", follows_environment=True), a_1=1),
    ):
        for asked in (DEFAULT, Target("a")):
            with pytest.raises(NoWorker):
                label(found, asked, without="a@1")

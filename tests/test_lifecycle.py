"""The life of a model version: which moves are open, and what decisions come to."""

from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.rows import a_model, a_version, a_worker, holding
from workers.broker.connection import connection, queue
from workers.broker.names import QUEUE
from workers.catalog import lifecycle, plan
from workers.catalog.lifecycle import NEXT, Refused, State
from workers.models import Change, ModelVersion, ServedModel, Worker

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db]

WHY = {"by": "anna", "reason": "better"}
OPEN = {
    ("registered", "checking"),
    ("checking", "ready"),
    ("checking", "rejected"),
    ("checking", "registered"),  # interrupted
    ("ready", "checking"),
    ("retired", "checking"),
    ("rejected", "checking"),
    ("active", "retired"),
    # An environment may activate whatever it likes.
    *((state.value, "active") for state in State if state != State.ACTIVE),
}


def two_versions() -> tuple[ServedModel, ModelVersion, ModelVersion]:
    """A model, its active version, and one that could follow."""
    model = a_model(is_default=True)
    return model, a_version(model, "1", state="active"), a_version(model, "2")


def told(change: Change) -> tuple[str, str]:
    change.refresh_from_db()
    return change.outcome, change.detail


@pytest.mark.parametrize(("start", "to"), list(product(State, State)))
def test_a_version_moves_only_where_the_way_is_open(start: State, to: State) -> None:
    version = a_version(a_model(), state=start)
    if (start.value, to.value) in OPEN:
        lifecycle.move(version, to, reason="so")
        version.refresh_from_db()
        assert (version.state, version.reason) == (to, "so")
    else:
        with pytest.raises(Refused, match=f"m@1 is {start}: it can't become {to}"):
            lifecycle.move(version, to)
        version.refresh_from_db()
        assert version.state == start


def test_every_state_has_a_way_out() -> None:
    assert set(NEXT) == set(State)
    assert all(NEXT.values())


def test_a_move_goes_by_what_the_database_says() -> None:
    version = a_version(a_model(), state="checking")
    seen_before = ModelVersion.objects.get(pk=version.pk)
    lifecycle.move(version, State.REJECTED, reason="so")
    with pytest.raises(Refused, match="m@1 is rejected"):
        lifecycle.move(seen_before, State.READY)


# --- registering and checking ---------------------------------------------------------------------


def test_a_registered_version_is_checked_next(tmp_path: Path) -> None:
    version = lifecycle.register("m", "1", "", by="anna", kind="sleep", options={"a": 1})
    assert (version.state, version.registered_by, version.options) == (
        *("checking", "anna"),
        {"a": 1},
    )
    [job] = queue(QUEUE).jobs
    assert (job.func_name, job.args) == (lifecycle.CHECK, [version.pk])
    [change] = Change.objects.all()
    assert (change.action, change.to_version, change.by) == ("register", version, "anna")
    assert not ServedModel.objects.get().is_default  # it has nothing to answer with yet


def test_a_version_is_registered_once() -> None:
    lifecycle.register("m", "1", "", by="anna", kind="sleep")
    with pytest.raises(Refused, match="m@1 is registered already"):
        lifecycle.register("m", "1", "", by="boris", kind="sleep")
    with pytest.raises(Refused, match="m is a model of kind sleep"):
        lifecycle.register("m", "2", "", by="boris", kind="ner")
    assert ModelVersion.objects.count() == Change.objects.count() == 1


@pytest.mark.parametrize(
    ("name", "version", "says"),
    [("a/b", "1", "name: It stands in addresses"), ("m", "1 2", "version: It stands in addresses")],
)
def test_a_name_that_fits_no_address_is_refused(name: str, version: str, says: str) -> None:
    with pytest.raises(Refused, match=says):
        lifecycle.register(name, version, "", by="anna", kind="sleep")
    assert not ServedModel.objects.exists()


def test_what_serves_or_shall_serve_is_not_checked() -> None:
    model, active, version = two_versions()
    with pytest.raises(Refused, match="m@1 is active"):
        lifecycle.request_check(active)
    lifecycle.set_canary(model, version, 10, **WHY)
    with pytest.raises(Refused, match=r"m@2 is the canary\. Stop that first"):
        lifecycle.request_check(version)
    lifecycle.set_canary(model, None, 0, **WHY)
    lifecycle.set_shadow(model, version, 10, **WHY)
    with pytest.raises(Refused, match=r"m@2 is the shadow\. Stop that first"):
        lifecycle.request_check(version)
    lifecycle.set_shadow(model, None, 0, **WHY)
    lifecycle.activate(version, **WHY)
    with pytest.raises(Refused, match="anna is activating m@2"):
        lifecycle.request_check(version)
    assert not queue(QUEUE).jobs


def test_a_check_that_fell_silent_may_be_asked_for_again() -> None:
    version = a_version(a_model(), state="checking", checked_at=timezone.now())
    lifecycle.give_up_silent_checks()
    with pytest.raises(Refused, match="m@1 is checking"):
        lifecycle.request_check(version)
    long_ago = timezone.now() - timedelta(seconds=lifecycle.SILENT + 1)
    ModelVersion.objects.update(checked_at=long_ago)
    lifecycle.give_up_silent_checks()
    version.refresh_from_db()
    assert (version.state, version.reason) == (
        *("registered", "Its check was interrupted. Check it again."),
    )
    lifecycle.request_check(version)
    assert version.state == State.CHECKING


# --- deciding -------------------------------------------------------------------------------------


def test_an_activation_is_published_and_nothing_else_changes() -> None:
    model, active, version = two_versions()
    change = lifecycle.activate(version, **WHY)
    assert (change.outcome, change.from_version, change.to_version) == ("pending", active, version)
    published = plan.published()
    assert published
    assert (published.models["m"].active, published.models["m"].target) == ("1", "2")
    model.refresh_from_db()
    assert model.active == active


@pytest.mark.parametrize("state", [one for one in State if one not in lifecycle.SERVABLE])
def test_only_what_passed_its_check_is_activated(state: State) -> None:
    version = a_version(a_model(), state=state, reason="too slow")
    with pytest.raises(Refused, match=f"m@1 is {state}"):
        lifecycle.activate(version, **WHY)
    assert not Change.objects.exists()


def test_what_a_worker_could_not_load_is_not_activated_until_that_is_forgotten() -> None:
    _, _, version = two_versions()
    a_worker("w", held={"m@2": holding("failed", error="MemoryError: too big")})
    a_worker("dead", state="stopped", held={"m@2": holding("failed", error="old")})
    with pytest.raises(Refused, match=r"Worker w couldn't load m@2: MemoryError: too big. Fix"):
        lifecycle.activate(version, **WHY)
    assert not Change.objects.exists()
    Worker.objects.filter(pk="w").update(held={"m@2": holding("loading")})
    lifecycle.activate(version, **WHY)


def test_a_decision_has_a_reason() -> None:
    model, _, version = two_versions()
    for decide in (
        lambda: lifecycle.activate(version, by="anna", reason=" "),
        lambda: lifecycle.set_canary(model, version, 5, by="anna", reason=""),
    ):
        with pytest.raises(Refused, match="Say why"):
            decide()
    model.refresh_from_db()
    assert model.canary is None


def test_one_activation_at_a_time_and_it_may_be_cancelled() -> None:
    model, active, version = two_versions()
    another = a_version(model, "3")
    first = lifecycle.activate(version, **WHY)
    with pytest.raises(Refused, match=r"anna is activating m@2 since \d\d:\d\d:\d\d\. Wait"):
        lifecycle.activate(another, by="boris", reason="mine is better")
    lifecycle.cancel(model, by="boris")
    assert told(first) == ("cancelled", "Cancelled by boris.")
    with pytest.raises(Refused, match="Nothing is being activated for m"):
        lifecycle.cancel(model, by="boris")
    lifecycle.activate(another, by="boris", reason="mine is better")
    model.refresh_from_db()
    assert model.active == active


def test_shares_have_bounds_and_an_active_version_beside_them() -> None:
    model, active, version = two_versions()
    for share, decide in ((100, lifecycle.set_canary), (101, lifecycle.set_shadow)):
        for wrong in (0, share):
            with pytest.raises(Refused, match=f"is 1 to {share - 1} per cent"):
                decide(model, version, wrong, **WHY)
        with pytest.raises(Refused, match="m@1 is active: it can't be"):
            decide(model, active, 10, **WHY)
        with pytest.raises(Refused, match="m has no "):
            decide(model, None, 0, **WHY)
    other = a_model("other")
    with pytest.raises(Refused, match="m@2 isn't a version of other"):
        lifecycle.set_canary(other, version, 10, **WHY)
    with pytest.raises(Refused, match="other has no active version"):
        lifecycle.set_canary(other, a_version(other), 10, **WHY)


def test_the_default_is_one_model_with_an_active_version() -> None:
    _, active, _ = two_versions()
    other = a_model("other")
    with pytest.raises(Refused, match="other has no active version"):
        lifecycle.make_default(other, **WHY)
    there = a_version(other, state="active")
    change = lifecycle.make_default(other, **WHY)
    assert (change.from_version, change.to_version) == (active, there)
    assert list(ServedModel.objects.filter(is_default=True)) == [other]
    with pytest.raises(Refused, match="is the default already"):
        lifecycle.make_default(other, **WHY)


def test_a_decision_stands_while_redis_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, version = two_versions()
    monkeypatch.setattr(connection(), "connection_pool", Away())
    change = lifecycle.activate(version, **WHY)
    assert change.outcome == "pending"
    lifecycle.cancel(model, by="anna")
    with pytest.raises(Refused, match="Redis can't be reached"):
        lifecycle.request_check(version)
    version.refresh_from_db()
    assert version.state == State.REGISTERED
    assert "Check it again" in version.reason


class Away:
    """A pool of connections to a Redis that can't be reached."""

    def __getattr__(self, name: str) -> Any:
        raise RedisConnectionError("away")


# --- what comes of it -----------------------------------------------------------------------------


def test_an_activation_is_done_when_all_workers_have_it() -> None:
    model, active, version = two_versions()
    change = lifecycle.activate(version, **WHY)
    for name in "ab":
        a_worker(name, held={"m@1": holding("ready"), "m@2": holding("loading")})
    a_worker("elsewhere", follows=False)
    a_worker("dead", state="stopped")
    lifecycle.conclude()
    assert str(lifecycle.progress(change)) == "0 of 2 workers have it"
    Worker.objects.filter(pk="a").update(held={"m@2": holding("ready")})
    lifecycle.conclude()
    assert told(change) == ("pending", "")
    Worker.objects.filter(pk="b").update(held={"m@2": holding("ready")})
    lifecycle.conclude()
    lifecycle.conclude()
    assert told(change) == ("done", "")
    for row in (model, active, version):
        row.refresh_from_db()
    assert (model.active, model.previous) == (version, active)
    assert (active.state, version.state) == (State.RETIRED, State.ACTIVE)
    assert not model.follows_environment
    published = plan.published()
    assert published
    assert (published.models["m"].active, published.models["m"].target) == ("2", None)


def test_one_worker_that_cannot_load_it_ends_the_activation() -> None:
    model, active, version = two_versions()
    change = lifecycle.activate(version, **WHY)
    a_worker("a", held={"m@2": holding("ready")})
    a_worker("b", held={"m@2": holding("failed", error="MemoryError: too big")})
    lifecycle.conclude()
    assert told(change) == ("failed", "MemoryError: too big")
    model.refresh_from_db()
    version.refresh_from_db()
    assert (model.active, version.state) == (active, State.READY)


@pytest.mark.parametrize(
    ("ready", "waiting", "outcome"), [(1, 1, "done"), (2, 1, "done"), (1, 2, "pending")]
)
def test_workers_without_memory_for_two_get_their_turn_afterwards(
    ready: int, waiting: int, outcome: str
) -> None:
    """As long as they aren't the most: the version before must not be left alone."""
    *_, version = two_versions()
    change = lifecycle.activate(version, **WHY)
    for number, state in enumerate(["ready"] * ready + ["waiting"] * waiting):
        a_worker(f"w{number}", held={"m@2": holding(state)})
    lifecycle.conclude()
    assert told(change)[0] == outcome


def test_an_activation_without_workers_fails_when_its_time_is_over(settings: Any) -> None:
    model, active, version = two_versions()
    change = lifecycle.activate(version, **WHY)
    lifecycle.conclude()
    assert told(change)[0] == "pending"
    late = timezone.now() - timedelta(seconds=settings.VELO_ACTIVATION_TIMEOUT + 1)
    Change.objects.update(at=late)
    lifecycle.conclude()
    assert told(change) == ("failed", "Not done in time: 0 of 0 workers have it.")
    model.refresh_from_db()
    assert model.active == active


def test_a_canary_that_is_activated_is_no_canary_any_more() -> None:
    model, _, version = two_versions()
    lifecycle.set_canary(model, version, 10, **WHY)
    lifecycle.activate(version, **WHY)
    a_worker("a", held={"m@2": holding("ready")})
    lifecycle.conclude()
    model.refresh_from_db()
    assert (model.active, model.canary, model.canary_share) == (version, None, 0)


def test_a_shadow_that_is_activated_is_no_shadow_any_more() -> None:
    model, _, version = two_versions()
    lifecycle.set_shadow(model, version, 10, **WHY)
    lifecycle.activate(version, **WHY)
    a_worker("a", held={"m@2": holding("ready")})
    lifecycle.conclude()
    model.refresh_from_db()
    assert (model.active, model.shadow, model.shadow_share) == (version, None, 0)


def test_a_rollback_goes_to_the_one_before_and_back() -> None:
    model, active, version = two_versions()
    with pytest.raises(Refused, match="there is nothing to go back to"):
        lifecycle.rollback(model, **WHY)
    a_worker("a", held={"m@1": holding("ready"), "m@2": holding("ready")})
    lifecycle.activate(version, **WHY)
    lifecycle.conclude()
    for expected in (active, version):
        change = lifecycle.rollback(model, **WHY)
        assert (change.action, change.to_version) == ("rollback", expected)
        lifecycle.conclude()
        model.refresh_from_db()
        assert model.active == expected


def test_the_first_model_that_serves_is_the_default() -> None:
    model = a_model()
    lifecycle.activate(a_version(model), **WHY)
    a_worker("a", held={"m@1": holding("ready")})
    lifecycle.conclude()
    model.refresh_from_db()
    assert model.is_default


# --- a worker's environment -----------------------------------------------------------------------


def declare(name: str = "m", version: str = "1", **fields: Any) -> ModelVersion:
    return lifecycle.declare(
        name, version, "/models/m", kind="embed", digest="d", worker="w", **fields
    )


def test_an_environment_makes_its_version_active() -> None:
    first = declare(dimensions=3)
    assert (first.state, first.dimensions, first.registered_by) == ("active", 3, "environment")
    assert first.model.is_default
    declare()  # another worker, the same
    [change] = Change.objects.all()
    assert (change.by, change.outcome, change.to_version) == ("environment", "done", first)
    second = declare(version="2")
    first.refresh_from_db()
    model = ServedModel.objects.get()
    assert (model.active, model.previous) == (second, first)
    assert (first.state, second.state) == ("retired", "active")


def test_a_version_is_checked_again_when_golden_inputs_have_changed() -> None:
    model, _, version = two_versions()
    ModelVersion.objects.update(checked_at=timezone.now())
    golden = model.golden_inputs.create(input="a", expected=[1.0])
    for decide in (
        lambda: lifecycle.activate(version, **WHY),
        lambda: lifecycle.set_canary(model, version, 10, **WHY),
    ):
        with pytest.raises(Refused, match="newer than the check of m@2"):
            decide()
    ModelVersion.objects.update(checked_at=timezone.now())
    lifecycle.set_canary(model, version, 10, **WHY)
    golden.save()
    model.previous = version
    model.save()
    lifecycle.rollback(model, **WHY)


def test_a_version_that_was_never_checked_has_to_be_where_there_are_golden_inputs() -> None:
    """An environment made it active unchecked, and another one replaced it."""
    model, _, version = two_versions()
    ModelVersion.objects.filter(pk=version.pk).update(state=State.RETIRED, checked_at=None)
    lifecycle.set_canary(model, version, 10, **WHY)
    model.golden_inputs.create(input="a")
    with pytest.raises(Refused, match="newer than the check of m@2"):
        lifecycle.activate(version, **WHY)


def test_an_environment_decides_nothing_after_a_person_has() -> None:
    _, active, _ = two_versions()
    other = declare(version="3")
    assert other.state == "checking"
    assert ServedModel.objects.get().active == active


def test_the_default_follows_environments_until_a_person_decides() -> None:
    declare("a")
    declare("b")
    assert ServedModel.objects.get(is_default=True).name == "b"
    ServedModel.objects.filter(name="b").update(follows_environment=False)
    declare("c")
    assert ServedModel.objects.get(is_default=True).name == "b"


def test_an_environment_may_overtake_an_activation() -> None:
    declare(version="1")
    model = ServedModel.objects.get()
    version = a_version(model, "2")
    change = lifecycle.activate(version, **WHY)
    declare(version="2")
    a_worker("a", held={"m@2": holding("ready")})
    lifecycle.conclude()
    assert told(change)[0] == "done"
    model.refresh_from_db()
    assert (str(model.active), str(model.previous)) == ("m@2", "m@1")

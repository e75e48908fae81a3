"""One elected worker concludes, publishes and prunes for all; another takes over when it dies."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.db import OperationalError
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from redis import Redis

from tests.answering import model, plan_of, version
from tests.rows import a_model, a_version, a_worker, holding
from tests.stack import stack
from tests.test_workers import start_worker
from tests.waiting import eventually
from workers.broker.connection import connection
from workers.broker.election import Seat
from workers.catalog import lifecycle, plan
from workers.models import Change, Worker
from workers.runtime import housekeeping
from workers.runtime.housekeeping import PRUNED, SEAT, Housekeeper

in_the_database = pytest.mark.usefixtures("redis", "db")


@pytest.mark.usefixtures("redis")
def test_one_holds_the_seat_until_it_resigns() -> None:
    first, second = Seat("seat", 60), Seat("seat", 60)
    assert first.hold()
    assert not second.hold()
    assert first.hold()
    assert not second.resign()  # it isn't its own
    assert not second.hold()
    assert first.resign()
    assert second.hold()


@pytest.mark.usefixtures("redis")
def test_another_takes_the_seat_of_one_that_is_silent() -> None:
    first, second = Seat("seat", 0.2), Seat("seat", 60)
    assert first.hold()
    eventually(second.hold)
    assert not first.hold()  # it learns that it was too late


@in_the_database
def test_the_others_ask_the_database_nothing() -> None:
    elected, other = Housekeeper(), Housekeeper()
    elected.tick()
    with CaptureQueriesContext(database) as queries:
        other.tick()
    assert not queries.captured_queries
    elected.leave("elected")
    with CaptureQueriesContext(database) as queries:
        other.tick()
    assert queries.captured_queries


@in_the_database
def test_a_worker_without_a_database_leaves_the_house_to_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without, other = Housekeeper(), Housekeeper()

    def away() -> None:
        raise OperationalError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "conclude", away)
        with pytest.raises(OperationalError):
            without.tick()
    without.tick()  # it doesn't stand again yet
    assert not connection().exists(SEAT)
    other.tick()
    assert connection().exists(SEAT)


@in_the_database
def test_what_redis_has_lost_is_published_again() -> None:
    housekeeper = Housekeeper()
    a_version(a_model(), state="active")
    housekeeper.tick()
    assert connection().get(plan.KEY)
    connection().flushall()
    housekeeper.tick()
    published = plan.published()
    assert published
    assert published.version("m@1")


@in_the_database
def test_what_the_workers_have_reported_is_concluded() -> None:
    to = a_version(a_model())
    change = lifecycle.activate(to, by="somebody", reason="a test")
    a_worker(held={str(to): holding("ready")})
    Housekeeper().tick()
    change.refresh_from_db()
    assert change.outcome == Change.Outcome.DONE


def a_session(name: str, days: int) -> None:
    ends = timezone.now() + timedelta(days=days)
    Session.objects.create(session_key=name, session_data="", expire_date=ends)


@in_the_database
def test_a_start_prunes_what_is_old_and_then_once_a_day(settings: Any) -> None:
    old = timezone.now() - timedelta(days=settings.VELO_STATS_DAYS + 1)
    a_worker("old", last_seen=old)
    a_session("over", -1)
    a_session("open", 1)
    housekeeper = Housekeeper()
    housekeeper.tick()
    assert not Worker.objects.exists()
    assert Session.objects.get().session_key == "open"
    a_worker("old", last_seen=old)
    housekeeper.tick()
    assert Worker.objects.exists()  # it was done a moment ago
    assert 86_000 < connection().ttl(PRUNED) <= housekeeping.PRUNE_EVERY
    connection().delete(PRUNED)  # a day later
    housekeeper.tick()
    assert not Worker.objects.exists()


@in_the_database
def test_a_pruning_that_fails_is_tried_again_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise OperationalError("the database is away")

    monkeypatch.setattr(housekeeping, "prune", away)
    with pytest.raises(OperationalError):
        Housekeeper().tick()
    assert 0 < connection().ttl(PRUNED) <= housekeeping.PRUNE_AGAIN


def test_a_worker_knows_from_the_plan_whether_something_is_going_on() -> None:
    quiet = plan_of(model("m", "1", active="1"))
    assert not quiet.has_pending()
    assert not quiet.has_checks()
    assert plan_of(model("m", "1", "2", active="1", target="2")).has_pending()
    assert plan_of(model("m", versions={"1": version("m", "1", "checking")})).has_checks()


def test_another_worker_takes_over_when_one_is_killed(tmp_path: Path) -> None:
    with stack(tmp_path, workers=0, VELO_PREDICTOR="sleep") as velo:
        redis = Redis(unix_socket_path=str(tmp_path / "valkey.sock"))

        def published() -> bool:
            kept = redis.get(plan.KEY)
            return bool(kept and json.loads(kept)["models"])

        first = start_worker(velo)
        eventually(lambda: redis.exists(SEAT))
        holder = redis.get(SEAT)
        start_worker(velo)
        eventually(lambda: velo.get("/health/ready").json.get("workers") == 2)
        assert redis.get(SEAT) == holder
        first.kill()
        first.wait()
        eventually(lambda: redis.get(SEAT) not in (None, holder))
        redis.delete(plan.KEY)
        eventually(published)
        redis.close()

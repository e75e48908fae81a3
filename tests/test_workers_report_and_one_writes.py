"""Workers report what they are; the elected one writes it into their rows."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection as database
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test.utils import CaptureQueriesContext
from rq.job import JobStatus

from tests.jobs import enqueue
from tests.letters import Letters
from tests.rows import a_model, a_version
from workers.broker import ledger, reports
from workers.broker.connection import connection, queue
from workers.broker.election import Seat
from workers.catalog import lifecycle, plan
from workers.models import Change, ModelVersion, Worker
from workers.runtime import bookkeeping
from workers.runtime import row as rows
from workers.runtime.housekeeping import SEAT
from workers.runtime.worker import InferenceWorker

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db(transaction=True)]

STARTED = "2026-11-26T12:00:00+00:00"


def said(**fields: Any) -> dict[str, Any]:
    """What a worker reports."""
    return {
        "node": "node",
        "host": "host",
        "pid": 1,
        "started": STARTED,
        "follows": True,
        "state": "idle",
        "note": "",
        "declares": None,
        "serves": None,
        "queues": "default",
        "jobs_done": 1,
        "jobs_failed": 0,
        "engine": "",
        "model_time": None,
        "batches": {},
        "held": {},
        **fields,
    }


def declares(version: str = "1") -> dict[str, Any]:
    return {
        "label": f"m@{version}",
        "name": "m",
        "version": version,
        "source": "",
        "kind": "sleep",
        "digest": "",
        "dimensions": 384,
    }


def report(worker: str = "w", **fields: Any) -> None:
    reports.report(worker, said(**fields))


def row(worker: str = "w") -> Worker:
    return Worker.objects.get(pk=worker)


def test_the_last_report_is_written() -> None:
    report(state="loading")
    report(state="busy", jobs_done=7)
    bookkeeping.write()
    assert (row().state, row().jobs_done) == ("busy", 7)
    assert row().started == datetime(2026, 11, 26, 12, tzinfo=UTC)
    assert row() in Worker.objects.alive()
    assert not reports.waiting()


def test_many_reports_cost_few_statements() -> None:
    def statements(count: int) -> int:
        for number in range(count):
            report(f"w{number}")
        with CaptureQueriesContext(database) as asked:
            bookkeeping.write()
        return len(asked)

    assert statements(1) <= 5
    assert statements(200) < 10  # SQLite takes some fifty rows at a time
    assert Worker.objects.count() == 200


def test_a_report_that_comes_meanwhile_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    report()
    save = bookkeeping._save

    def slowly(rows: list[Worker]) -> None:
        save(rows)
        report(state="busy")

    with monkeypatch.context() as patch:
        patch.setattr(bookkeeping, "_save", slowly)
        bookkeeping.write()
    assert row().state == "idle"
    bookkeeping.write()
    assert row().state == "busy"


def test_a_report_that_cannot_be_written_stops_no_other() -> None:
    report("a")
    report("b", pid=None)
    report("c")
    connection().hset(reports.REPORTS, "d", json.dumps({"of": "another version"}))
    bookkeeping.write()
    assert {one.pk for one in Worker.objects.all()} == {"a", "c"}
    assert not reports.waiting()


def test_few_may_wait_while_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "WORKERS_AT_MOST", 2)
    for worker in ("a", "b", "b"):
        report(worker)
    with pytest.raises(Exception, match="velo:reports is full"):
        report("c")
    report("a")


def lose(worker: str = "w") -> None:
    loss = {"worker": worker, "why": "its process is gone", "rescued": 2, "failed": 1}
    connection().rpush(ledger.LOSSES, json.dumps(loss))


def test_a_lost_worker_is_not_alive_and_says_why() -> None:
    report()  # before it died
    lose()
    bookkeeping.write()
    assert row() not in Worker.objects.alive()
    assert row().jobs_rescued == 2
    assert row().note == ("Lost: its process is gone. 2 jobs were put back, 1 failed as poisonous.")
    report()  # it was only stopped for a while
    bookkeeping.write()
    assert row() in Worker.objects.alive()
    assert row().note.startswith("Lost: ")
    report(note="something else")
    bookkeeping.write()
    assert row().note == "something else"
    lose()
    bookkeeping.write()
    report(started="2026-11-26T13:00:00+00:00")  # another process under its name
    bookkeeping.write()
    assert row().note == ""


def test_what_it_was_started_with_is_registered_once() -> None:
    report(declares=declares(), serves="m@1")
    bookkeeping.write()
    version = ModelVersion.objects.get()
    assert (version.label, version.state, version.dimensions) == ("m@1", "active", 384)
    assert (row().declared, row().model_version) == ("m@1", version)
    report("x", declares=declares("2"))  # a worker of another environment
    bookkeeping.write()
    report(declares=declares(), serves="m@1")  # that's no news
    bookkeeping.write()
    assert Change.objects.count() == 2
    report(declares=declares(), started="2026-11-26T13:00:00+00:00")  # but this is
    bookkeeping.write()
    assert Change.objects.count() == 3
    version.refresh_from_db()
    assert version.state == "active"


def test_workers_that_start_together_are_one_change(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    declare = lifecycle.declare

    def noting(name: str, version: str, *words: Any, **fields: Any) -> ModelVersion:
        names.append(version)
        return declare(name, version, *words, **fields)

    monkeypatch.setattr(lifecycle, "declare", noting)
    for number, version in enumerate(["1", "1", "1", "2", "1"]):
        started = f"2026-11-26T12:00:0{number}+00:00"
        report(f"w{number}", declares=declares(version), started=started)
    bookkeeping.write()
    assert names == ["1", "2", "1"]
    assert set(Worker.objects.values_list("declared", flat=True)) == {"m@1", "m@2"}


def test_a_version_that_cannot_be_registered_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise lifecycle.Refused("not now")

    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "declare", refuse)
        report(declares=declares())
        report("other")
        bookkeeping.write()
    assert row().declared == ""
    assert Worker.objects.count() == 2
    report(declares=declares())
    bookkeeping.write()
    assert row().declared == "m@1"


def test_a_row_that_somebody_deleted_comes_back() -> None:
    report()
    bookkeeping.write()
    Worker.objects.all().delete()
    report()
    bookkeeping.write()
    assert row().state == "idle"


@pytest.fixture
def worker(letters: Letters) -> InferenceWorker:
    return InferenceWorker([queue()], name="w", connection=connection())


def test_it_reports_news_at_once_and_figures_after_a_while(
    worker: InferenceWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = worker._parts.row
    part.report()
    assert reports.waiting().keys() == {"w"}

    def reported() -> bool:
        reports.forget(reports.waiting())
        part.report()
        return reports.is_waiting("w")

    assert not reported()
    worker._parts.answers._done += 1
    assert not reported()
    monkeypatch.setattr(part, "_again", 0.0)  # seconds later
    assert reported()
    monkeypatch.setattr(worker._parts.fleet, "_declared_error", "its folder is gone")
    assert reported()
    assert not reported()
    assert rows.REPORT_EVERY * 2 < 9  # Worker.alive waits for two of them


def test_a_worker_needs_no_database_while_another_is_elected(
    worker: InferenceWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts, serves, reports and ends, in all of its threads."""
    a_version(a_model("letters", follows_environment=True), state="active")
    plan.publish()
    assert Seat(SEAT, 60).hold()
    job, asked = enqueue("text"), []
    with monkeypatch.context() as patch:
        patch.setattr(BaseDatabaseWrapper, "cursor", lambda *_: asked.append("a statement"))
        worker.work(burst=True)
    assert job.get_status() == JobStatus.FINISHED
    assert not asked
    last = json.loads(reports.waiting()["w"])
    assert (last["state"], last["jobs_done"]) == ("stopped", 1)
    assert last["declares"]["label"] == "letters@1"

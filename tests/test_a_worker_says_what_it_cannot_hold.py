"""What a worker can't hold is an error that names it: in its end, in its row, in Redis."""

from pathlib import Path
from typing import Any

import pytest

from tests.rows import a_model, a_version
from tests.stack import manage
from tests.test_workers_take_batches import Letters, model
from workers.broker import leases
from workers.broker.connection import connection, queue
from workers.broker.names import QUEUE
from workers.models import Worker
from workers.runtime.worker import InferenceWorker

__all__ = ["model"]

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db(transaction=True)]
MB = 1024 * 1024


@pytest.fixture(autouse=True)
def large(settings: Any) -> None:
    """m@1 is active and takes more than a worker may hold."""
    settings.VELO_WORKER_MEMORY_MB = 100
    a_version(a_model("m", is_default=True), "1", state="active", memory=400 * MB)


def worker(*names: str) -> InferenceWorker:
    return InferenceWorker([queue(name) for name in names], name="w", connection=connection())


def test_a_version_named_on_the_command_line_that_does_not_fit_ends_the_worker(
    model: Letters,
) -> None:
    with pytest.raises(SystemExit, match="m@1 takes 400 MB; a worker may hold 100 MB"):
        worker("m@1").work(burst=True)
    row = Worker.objects.get(pk="w")
    assert row.state == Worker.State.FAILED
    assert "VELO_WORKER_MEMORY_MB" in row.note
    assert "m@1 takes 400 MB" in str(leases.failed_start("m@1"))


def test_a_worker_that_follows_the_plan_waits_for_memory_and_says_so(
    model: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered: list[leases.Registration] = []
    give_back = leases.Registration.give_back

    def noting(registration: leases.Registration) -> None:
        registered.append(registration)
        give_back(registration)

    monkeypatch.setattr(leases.Registration, "give_back", noting)
    worker(QUEUE).work(burst=True)
    held = Worker.objects.get(pk="w").held["m@1"]
    assert held["state"] == "waiting"
    assert "m@1 takes 400 MB" in held["error"]
    [last] = registered
    assert last.queues == ["letters@1", QUEUE] or last.queues == [QUEUE]
    assert "m@1 takes 400 MB" in last.problems["m@1"]


def test_a_worker_without_any_queue_ends_a_burst_and_nothing_breaks(
    model: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its version can't be loaded while others serve: it goes on without."""
    monkeypatch.setattr("workers.runtime.holdings.fits", lambda *args: True)
    named = worker("m@1")
    monkeypatch.setattr(named._parts.fleet, "load_first", lambda: None)
    named.work(burst=True)
    assert Worker.objects.get(pk="w").state == Worker.State.STOPPED


@pytest.mark.parametrize("command", ["rqworker", "rqworker-pool"])
def test_a_queue_that_does_not_exist_is_named(tmp_path: Path, command: str) -> None:
    knobs = {"DJANGO_SECRET_KEY": "x", "DJANGO_ALLOWED_HOSTS": "localhost"}
    ended = manage(tmp_path, command, "default", "low", **knobs)
    assert ended.returncode == 1
    assert ended.stderr.strip().endswith(
        "There is no queue 'low'. Write default, or a model version as NAME@VERSION."
    )
    assert "Traceback" not in ended.stderr

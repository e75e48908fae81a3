"""Checks are run one at a time on a machine, and those that wait lose nothing by it."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from tests.rows import a_model, a_version
from tests.stack import ROOT
from tests.waiting import eventually
from workers.catalog import checking, lifecycle
from workers.catalog.lifecycle import Refused, State
from workers.host import turns
from workers.models import ModelVersion

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db(transaction=True)]

HOLD = """
import sys, time, pathlib
from workers.host.turns import taken
with taken(pathlib.Path(sys.argv[1])) as is_ours:
    print(is_ours, flush=True)
    time.sleep(60)
"""
NOTE = """
import sys, time
with open(sys.argv[1], "a") as file:
    print("begins", file=file, flush=True)
    time.sleep(0.2)
    print("ends", file=file, flush=True)
sys.exit(3)
"""


def asked(*versions: str) -> list[ModelVersion]:
    """Versions whose checks have been asked for, in this order."""
    model = a_model(kind="sleep")
    rows = [a_version(model, version) for version in versions]
    for row in rows:
        lifecycle.request_check(row)
    return rows


@pytest.fixture(autouse=True)
def idle() -> Iterator[None]:
    """No check of one test goes on in the next."""
    yield
    eventually(lambda: not checking._working.locked())


def runs(monkeypatch: pytest.MonkeyPatch, code: str, *words: object) -> None:
    """Instead of the check, in a process of its own all the same."""
    command = [sys.executable, "-c", code, *map(str, words)]
    monkeypatch.setattr(checking, "_command", lambda pk: command)


def rejected(version: ModelVersion) -> str:
    """Why it is, once it is."""

    def state() -> bool:
        version.refresh_from_db()
        return version.state != State.CHECKING

    eventually(state, seconds=60)
    assert version.state == State.REJECTED, version.reason
    return version.reason


def test_a_lock_is_one_processes_until_it_dies(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "True\n"
        with turns.taken(path) as is_ours:
            assert not is_ours
        holder.send_signal(signal.SIGKILL)
    with turns.taken(path) as is_ours, turns.taken(path) as twice:
        assert is_ours
        assert not twice  # nor another thread's
    with turns.taken(path) as is_ours:
        assert is_ours
    assert path.stat().st_mode & 0o777 == 0o600


def test_checks_run_one_after_another_and_each_has_all_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.VELO_CHECK_TIMEOUT = 20
    log = tmp_path / "log"
    runs(monkeypatch, NOTE, log)
    rows = asked(*"123456")
    for row in rows:
        checking.start(row.pk)  # as many jobs as checks
    for row in rows:
        assert rejected(row) == "The check failed: its process ended with exit code 3."
    assert log.read_text().split() == ["begins", "ends"] * len(rows)
    assert all(row.checks[0]["outcome"] == "passed" for row in rows)
    waited = [row.checks[0]["seconds"] for row in rows]
    assert waited == sorted(waited)
    assert waited[-1] > 1.0


def test_waiting_takes_nothing_of_the_time_of_a_check(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.VELO_CHECK_TIMEOUT = 2
    runs(monkeypatch, "import sys, time; time.sleep(60)")
    [first, second] = asked("1", "2")
    checking.take_up()
    for row in (first, second):
        assert "it took longer than 2 s. Raise VELO_CHECK_TIMEOUT" in rejected(row)
    assert second.checks[0]["seconds"] >= 2.0


def test_no_check_begins_while_another_process_runs_some(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    runs(monkeypatch, "raise SystemExit(3)")
    [row] = asked("1")
    with turns.taken(settings.VELO_VAR / checking.LOCK) as is_ours:
        assert is_ours
        checking.take_up()
        eventually(lambda: not checking._working.locked())
        row.refresh_from_db()
        assert lifecycle.waits(row)
    checking.take_up()  # as each worker does again and again
    assert rejected(row)


def test_no_check_begins_while_rq_is_suspended(monkeypatch: pytest.MonkeyPatch) -> None:
    runs(monkeypatch, "raise SystemExit(3)")
    [row] = asked("1")
    monkeypatch.setattr(checking, "is_suspended", lambda: True)
    checking.take_up()
    eventually(lambda: not checking._working.locked())
    row.refresh_from_db()
    assert lifecycle.waits(row)


def test_a_worker_shows_that_a_check_is_alive_however_silent_its_process(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setattr(checking, "BEAT", 0.05)
    settings.VELO_CHECK_TIMEOUT = 2
    runs(monkeypatch, "import time; time.sleep(60)")
    [row] = asked("1")
    checking.take_up()

    def shown() -> Any:
        row.refresh_from_db()
        return row.checked_at

    first = eventually(shown)
    eventually(lambda: shown() > first)
    rejected(row)


def test_what_waits_is_seen_and_never_interrupted() -> None:
    first, second, third = asked("1", "2", "3")
    ModelVersion.objects.filter(pk=first.pk).update(checks=[])  # asked for by an older Velo
    assert [one.version for one in lifecycle.waiting_checks()] == ["1", "2", "3"]
    assert lifecycle.turn_of(first) == "waits for a worker"
    assert lifecycle.turn_of(second) == "waits for its turn, after 1 other check"
    assert lifecycle.take_check() == first
    assert lifecycle.turn_of(third) == "waits for its turn, after 2 other checks"
    first.refresh_from_db()
    assert lifecycle.turn_of(first) == ""
    long_ago = timezone.now() - timedelta(seconds=lifecycle.SILENT + 1)
    ModelVersion.objects.filter(pk=first.pk).update(checked_at=long_ago)
    lifecycle.give_up_silent_checks()
    for row, state in ((first, "registered"), (second, "checking"), (third, "checking")):
        row.refresh_from_db()
        assert row.state == state
    with pytest.raises(Refused, match="m@2 is checking"):
        lifecycle.request_check(second)
    lifecycle.request_check(first)  # it is the last now
    assert [one.version for one in lifecycle.waiting_checks()] == ["2", "3", "1"]


def test_a_check_is_begun_once() -> None:
    asked("1")
    assert lifecycle.take_check()
    assert lifecycle.take_check() is None


def test_the_check_is_told_which_process_to_end_with() -> None:
    words = checking._command(7)
    assert re.search(r"manage.py check_version 7 --parent \d+$", " ".join(words))

"""Figures and losses reach the database once, whichever process dies, and whatever is away."""

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as configured
from django.db import DatabaseError
from django.utils import timezone
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from tests.rows import a_model, a_version, a_worker
from tests.stack import ROOT, environment, manage
from workers.broker import ledger
from workers.broker.connection import connection
from workers.metrics import latency
from workers.metrics.latency import Key, Measured, Recorder
from workers.models import LatencySample, ModelVersion, ShadowComparison, Worker
from workers.runtime import bookkeeping

pytestmark = pytest.mark.usefixtures("redis")
in_the_database = pytest.mark.usefixtures("db")
Stage = LatencySample.Stage


@pytest.fixture
def version(db: None) -> ModelVersion:
    return a_version(a_model())


def recorded(*durations: float, label: str = "m@1") -> Recorder:
    recorder = Recorder()
    recorder.record(Stage.MODEL, label, *durations)
    return recorder


def raising(error: Exception) -> Callable[..., Any]:
    def away(*_: Any, **__: Any) -> None:
        raise error

    return away


def written() -> int:
    return sum(LatencySample.objects.values_list("count", flat=True))


def test_several_processes_fill_one_row(version: ModelVersion) -> None:
    for seconds in (0.010, 0.030):
        recorded(seconds).flush()
    bookkeeping.write()
    recorded(0.050).flush()
    failing = recorded()
    failing.fail("m@1")
    failing.flush()
    bookkeeping.write()
    models, responses = LatencySample.objects.order_by("stage")
    assert (models.stage, models.count, models.model_version) == (Stage.MODEL, 3, version)
    assert models.histogram.mean == pytest.approx(0.030)
    assert models.histogram.count == 3
    assert (responses.stage, responses.count, responses.failed) == (Stage.RESPONSE, 0, 1)


@in_the_database
def test_comparisons_add_up_too() -> None:
    model = a_model()
    shadow, active = a_version(model, "2"), a_version(model)
    for likeness in (0.5, 1.0, None):
        recorder = Recorder()
        recorder.comparisons.add(str(shadow), str(active), likeness)
        recorder.comparisons.add("gone@1", str(active), 1.0)
        recorder.flush()
        bookkeeping.write()
    row = ShadowComparison.objects.get()
    assert (row.shadow, row.to, row.count, row.failed) == (shadow, active, 2, 1)
    assert (row.likeness["least"], row.likeness["total"]) == (0.5, 1.5)
    assert sum(row.likeness["counts"].values()) == 2


def test_what_redis_does_not_get_is_sent_again(
    version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = recorded(0.010)
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "script", raising(RedisConnectionError("away")))
        for _ in range(2):
            with pytest.raises(RedisConnectionError):
                recorder.flush()
    recorder.record(Stage.MODEL, "m@1", 0.010)
    recorder.flush()
    bookkeeping.write()
    assert written() == 2


def test_a_packet_whose_answer_was_lost_counts_once(
    version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, script = recorded(0.010), ledger.script

    def lost(name: str) -> Callable[..., Any]:
        def run(**words: Any) -> None:
            script(name)(**words)
            raise RedisConnectionError("the answer was lost")

        return run

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "script", lost)
        with pytest.raises(RedisConnectionError):
            recorder.flush()
    recorder.flush()
    bookkeeping.write()
    assert written() == 1


def test_a_full_ledger_refuses_and_the_process_keeps_its_figures(
    version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(0.010).flush()
    late = recorded(0.010)
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "FIELDS_AT_MOST", 1)
        with pytest.raises(ResponseError, match="velo:figures is full"):
            late.flush()
    bookkeeping.write()
    assert written() == 1
    late.flush()
    bookkeeping.write()
    assert written() == 2


def test_a_batch_that_the_database_refused_is_written_later(
    version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(0.010).flush()
    with monkeypatch.context() as patch:
        patch.setattr(LatencySample.objects, "bulk_create", raising(DatabaseError("away")))
        with pytest.raises(DatabaseError):
            bookkeeping.write()
    recorded(0.010).flush()
    bookkeeping.write()
    bookkeeping.write()
    assert written() == 2


def test_a_writer_that_dies_before_it_can_say_so_makes_nothing_count_twice(
    version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_worker("dead")
    recorded(0.010).flush()
    recorded(0.010, label="unknown@1").flush()
    connection().rpush(ledger.LOSSES, '{"worker": "dead", "why": "x", "rescued": 3, "failed": 0}')
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "settle", raising(RedisConnectionError("it dies here")))
        with pytest.raises(RedisConnectionError):
            bookkeeping.write()
    for _ in range(2):
        bookkeeping.write()
    assert written() == 1
    assert Worker.objects.get(pk="dead").jobs_rescued == 3
    a_version(a_model("unknown"))
    bookkeeping.write()
    assert written() == 2  # what had to wait wasn't forgotten
    assert not ledger.is_waiting()


@in_the_database
def test_figures_of_a_version_wait_until_it_is_registered() -> None:
    recorded(0.010).flush()
    bookkeeping.write()
    assert written() == 0
    recorded(0.010).flush()
    a_version(a_model())
    bookkeeping.write()
    assert written() == 2


@in_the_database
def test_figures_of_a_version_that_never_comes_are_forgotten() -> None:
    long_ago = timezone.now() - timedelta(minutes=latency.MINUTES_KEPT + 1)
    measured = Measured()
    measured.histogram.add(0.010)
    figures = latency.to_figures({Key(long_ago, Stage.MODEL, "m@1"): measured})
    ledger.Sender().send(ledger.Packet(figures))
    bookkeeping.write()
    assert not ledger.is_waiting()


def test_what_is_taken_comes_back_as_it_was() -> None:
    measured = Measured(failed=2)
    for seconds in (0.010, 0.011, 4.0):
        measured.histogram.add(seconds)
    key = Key(timezone.now().replace(second=0, microsecond=0), Stage.QUEUE, 'odd|"label@1')
    ledger.Sender().send(ledger.Packet(latency.to_figures({key: measured})))
    batch = ledger.take()
    assert batch
    assert ledger.take() == batch
    [(found, again)] = latency.from_figures(batch.figures).items()
    assert found == key
    assert again.failed == 2
    assert again.histogram.to_json() == measured.histogram.to_json()
    assert again.histogram.total == pytest.approx(measured.histogram.total)


WRITER = """
import django; django.setup()
from workers.metrics.latency import Recorder
from workers.models import LatencySample
from workers.runtime import bookkeeping
for _ in range(20):
    recorder = Recorder()
    for stage in LatencySample.Stage:
        recorder.record(stage, "m@1", 0.010)
    recorder.flush()
    bookkeeping.write()
bookkeeping.write()
"""
COUNTS = """
from collections import Counter; from workers.models import LatencySample
c = Counter()
for row in LatencySample.objects.all():
    assert row.count == row.histogram.count
    c[row.stage] += row.count
print(sorted(c.items()))
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_processes_that_write_at_once_lose_nothing(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """One is elected; another may be elected while the first is only slow."""
    knobs = {"DJANGO_SECRET_KEY": "x", "DJANGO_ALLOWED_HOSTS": "localhost"}
    knobs["REDIS_URL"] = configured.REDIS_URL
    if kind == "postgres":
        knobs["DATABASE_URL"] = request.getfixturevalue("postgres")
    made = manage(tmp_path, "migrate", "--verbosity", "0", **knobs)
    assert made.returncode == 0, made.stderr

    def shell(code: str) -> str:
        ended = manage(tmp_path, "shell", "--verbosity", "0", "-c", code, **knobs)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.strip()

    shell(
        "from workers.models import ModelVersion, ServedModel; ModelVersion.objects.create("
        "model=ServedModel.objects.create(name='m'), version='1')"
    )
    env = environment(tmp_path, DJANGO_SETTINGS_MODULE="velo_site.settings", **knobs)
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER], cwd=ROOT, env=env) for _ in range(4)
    ]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    assert shell(COUNTS) == "[('model', 80), ('queue', 80), ('response', 80)]"

"""Histograms that several processes fill, merge into the truth about all of them."""

import math
import random
import statistics
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError
from django.utils import timezone

from tests.stack import ROOT, environment, manage
from workers.metrics.latency import Recorder
from workers.models import LatencySample, ModelVersion, ServedModel, Worker, prune
from workers.values.histogram import RELATIVE_ERROR, Histogram

Stage = LatencySample.Stage
durations = [random.Random(1).lognormvariate(-4, 1) for _ in range(5000)]


def histogram(seconds: list[float]) -> Histogram:
    made = Histogram()
    for duration in seconds:
        made.add(duration)
    return made


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95, 0.99, 1.0])
def test_a_quantile_is_within_its_relative_error(share: float) -> None:
    rank = max(1, math.ceil(share * len(durations)))
    true = sorted(durations)[rank - 1]
    assert histogram(durations).quantile(share) == pytest.approx(true, rel=RELATIVE_ERROR)


def test_a_few_durations_have_the_quantiles_one_expects() -> None:
    few = histogram([0.010, 0.010, 0.030])
    assert few.quantile(0.5) == pytest.approx(0.010, rel=RELATIVE_ERROR)
    assert few.quantile(0.95) == pytest.approx(0.030, rel=RELATIVE_ERROR)


def test_merged_parts_equal_the_whole() -> None:
    merged = histogram(durations[:2000])
    merged.merge(histogram(durations[2000:]))
    whole = histogram(durations)
    assert merged.buckets == whole.buckets
    assert merged.mean == pytest.approx(statistics.mean(durations))
    assert Histogram(merged.to_json(), merged.total).quantile(0.95) == whole.quantile(0.95)


def test_an_empty_one_has_no_figures() -> None:
    assert Histogram().mean is None
    assert Histogram().quantile(0.5) is None


def test_nothing_is_too_short_or_too_long() -> None:
    extremes = histogram([0.0, -1e-9, 1e9])
    assert extremes.count == 3
    assert math.isfinite(extremes.quantile(1.0) or math.nan)


@pytest.fixture
def version(db: None) -> ModelVersion:
    model = ServedModel.objects.create(name="m")
    return ModelVersion.objects.create(model=model, version="1", state="ready")


@pytest.mark.usefixtures("redis")
def test_two_recorders_write_into_one_row(version: ModelVersion) -> None:
    for seconds in (0.010, 0.030):
        recorder = Recorder()
        recorder.record(Stage.MODEL, str(version), seconds)
        recorder.flush()
    [sample] = LatencySample.objects.all()
    assert (sample.stage, sample.count, sample.model_version) == (Stage.MODEL, 2, version)
    assert sample.histogram.mean == pytest.approx(0.020)


@pytest.mark.usefixtures("redis")
def test_what_cannot_be_written_waits(
    version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    recorder.record(Stage.MODEL, str(version), 0.010)

    def away(*_: Any, **__: Any) -> None:
        raise DatabaseError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(LatencySample.objects, "bulk_create", away)
        with pytest.raises(DatabaseError):
            recorder.flush()
    recorder.record(Stage.MODEL, str(version), 0.010)
    recorder.flush()
    assert LatencySample.objects.get().count == 2


@pytest.mark.usefixtures("redis", "version")
def test_an_unknown_version_is_no_error() -> None:
    recorder = Recorder()
    recorder.record(Stage.MODEL, "nobody@0", 0.010)
    recorder.flush()
    assert not LatencySample.objects.exists()


def test_old_rows_are_pruned(version: ModelVersion, settings: Any) -> None:
    now = timezone.now()
    for age in (0, settings.VELO_STATS_DAYS + 1):
        LatencySample.objects.create(
            minute=now - timedelta(days=age), stage=Stage.QUEUE, model_version=version
        )
        Worker.objects.create(
            id=str(age),
            node="n",
            host="h",
            pid=1,
            queues="q",
            last_seen=now - timedelta(days=age),
        )
    assert prune() == {"latency": 1, "workers": 1}
    assert Worker.objects.get().id == "0"


_WRITER = """
import django; django.setup()
from workers.metrics.latency import Recorder
from workers.models import LatencySample
for _ in range(20):
    recorder = Recorder()
    for stage in LatencySample.Stage:
        recorder.record(stage, "m@1", 0.010)
    recorder._responses.clear()  # no Redis here: it is the database that is tried
    recorder.flush()
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_processes_that_write_at_once_lose_nothing(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    knobs = {"DJANGO_SECRET_KEY": "x", "DJANGO_ALLOWED_HOSTS": "localhost"}
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
        subprocess.Popen([sys.executable, "-c", _WRITER], cwd=ROOT, env=env) for _ in range(4)
    ]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    counts = shell(
        "from collections import Counter; from workers.models import LatencySample\n"
        "c = Counter()\n"
        "for row in LatencySample.objects.all():\n"
        "    assert row.count == row.histogram.count\n"
        "    c[row.stage] += row.count\n"
        "print(sorted(c.items()))"
    )
    assert counts == "[('model', 80), ('queue', 80), ('response', 80)]"

"""Histograms that several processes fill, merge into the truth about all of them."""

import math
import random
import statistics
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

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
    assert prune() == {"latency": 1, "workers": 1, "usage": 0, "requests": 0}
    assert Worker.objects.get().id == "0"

"""Rows as processes and people leave them: models, versions, workers, measurements."""

from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from workers.host import machine
from workers.models import LatencySample, ModelVersion, ServedModel, Worker
from workers.values.histogram import Histogram

PASSED = [
    {"step": "source", "outcome": "passed", "detail": "4 files, 90.9 MB", "seconds": 0.2},
    {"step": "load", "outcome": "passed", "detail": "openvino, bf16", "seconds": 3.1},
    {"step": "golden", "outcome": "passed", "detail": "3 inputs agree", "seconds": 0.1},
]


def a_model(name: str = "m", **fields: Any) -> ServedModel:
    return ServedModel.objects.create(name=name, **{"follows_environment": False, **fields})


def a_version(model: ServedModel, version: str = "1", **fields: Any) -> ModelVersion:
    """Ready, unless `fields` say otherwise. An active one is active in its model too."""
    row = ModelVersion.objects.create(
        model=model, version=version, **{"dimensions": 384, "state": "ready", **fields}
    )
    if row.state == "active":
        ServedModel.objects.filter(pk=model.pk).update(active=row)
        model.active = row
    return row


def holding(state: str, **fields: Any) -> dict[str, Any]:
    """What a worker says of a version."""
    return {
        "state": state,
        "error": "",
        "memory": 310_000_000,
        "batches": {},
        "model_time": 0.0065,
        "since": timezone.now().isoformat(),
        "engine": "openvino bf16 on cpu",
        **fields,
    }


def a_worker(name: str = "w", **fields: Any) -> Worker:
    """Alive, and one that follows the plan; it holds nothing unless `fields` say so."""
    kept = {
        "node": "node",
        "host": machine.identity(),
        "pid": 1,
        "queues": "default",
        "state": "idle",
    }
    return Worker.objects.create(id=name, **{**kept, **fields})


def measured(
    version: ModelVersion,
    stage: str,
    durations: list[float],
    *,
    failed: int = 0,
    minute: datetime | None = None,
) -> LatencySample:
    """A minute's durations, in seconds; of the last whole minute unless told."""
    histogram = Histogram()
    for seconds in durations:
        histogram.add(seconds)
    latest = timezone.now().replace(second=0, microsecond=0) - timedelta(minutes=1)
    sample = LatencySample(
        minute=minute or latest, stage=stage, model_version=version, failed=failed
    )
    sample.histogram = histogram
    sample.save()
    return sample

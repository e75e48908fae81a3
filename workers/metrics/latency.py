"""Collects durations in memory and writes them in bulk, off the path of any request.

Every process, web or worker, has one Recorder; all write into the same rows, so that the rows are
the truth about the whole system.
"""

import threading
from dataclasses import dataclass, field
from datetime import datetime
from functools import reduce
from operator import or_
from typing import NamedTuple

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from workers.broker.connection import connection
from workers.metrics.shadowing import Comparisons
from workers.models import LatencySample, ModelVersion
from workers.values.histogram import Histogram

RESPONSES_KEY = "velo:response-times"
RESPONSES_KEPT = 1000
MINUTES_KEPT = 60  # of durations, in memory, while they can't be written


class Key(NamedTuple):
    """What durations are summed by."""

    minute: datetime
    stage: str
    label: str  # of the model version, "name@version"


@dataclass
class Measured:
    """Of one stage of one version, in one minute."""

    histogram: Histogram = field(default_factory=Histogram)
    failed: int = 0  # requests without an answer

    def merge(self, other: "Measured") -> None:
        """Add the other's durations and failures to these."""
        self.histogram.merge(other.histogram)
        self.failed += other.failed


class Recorder:
    """Durations of one process that aren't in the database yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[Key, Measured] = {}
        self._responses: list[float] = []
        self._version_ids: dict[str, int] = {}
        self.comparisons = Comparisons()

    def record(self, stage: LatencySample.Stage, label: str, *durations: float) -> None:
        """Each of `durations` in seconds."""
        if not durations:
            return
        with self._lock:
            histogram = self._measured(stage, label).histogram
            for seconds in durations:
                histogram.add(seconds)
            if stage is LatencySample.Stage.RESPONSE:
                self._responses += durations
                del self._responses[:-RESPONSES_KEPT]

    def fail(self, label: str) -> None:
        """A request got no answer from this version."""
        with self._lock:
            self._measured(LatencySample.Stage.RESPONSE, label).failed += 1

    def _measured(self, stage: LatencySample.Stage, label: str) -> Measured:
        """Of this minute."""
        minute = timezone.now().replace(second=0, microsecond=0)
        key = Key(minute, stage.value, label)
        if key not in self._pending:
            self._pending[key] = Measured()
            self._trim()
        return self._pending[key]

    def flush(self) -> None:
        """Write what is pending; what can't be written yet stays, the newest hour of it."""
        with self._lock:
            pending, self._pending = self._pending, {}
            responses, self._responses = self._responses, []
        try:
            if responses:
                _push_responses(responses)
            self.comparisons.flush()
            unknown = self._store(pending) if pending else {}
        except Exception:
            self._version_ids = {}  # it may be another database when it is back
            self._keep(pending)
            raise
        self._keep(unknown)

    def _store(self, pending: dict[Key, Measured]) -> dict[Key, Measured]:
        """Returns what belongs to versions that aren't registered yet: theirs is the worker that
        has started while the database was away."""
        ids = self._ids({key.label for key in pending})
        unknown = {key: one for key, one in pending.items() if key.label not in ids}
        fresh = {
            (key.minute, key.stage, ids[key.label]): measured
            for key, measured in pending.items()
            if key.label in ids
        }
        if not fresh:
            return unknown
        with transaction.atomic():
            LatencySample.objects.bulk_create(
                [
                    LatencySample(minute=minute, stage=stage, model_version_id=version)
                    for minute, stage, version in fresh
                ],
                ignore_conflicts=True,
            )
            wanted = [
                Q(minute=minute, stage=stage, model_version_id=version)
                for minute, stage, version in fresh
            ]
            # Locked in one order everywhere, so that two processes can't lock each other out.
            rows = list(
                LatencySample.objects.select_for_update().filter(reduce(or_, wanted)).order_by("pk")
            )
            for row in rows:
                merged, measured = row.histogram, fresh[row.minute, row.stage, row.model_version_id]
                merged.merge(measured.histogram)
                row.histogram = merged
                row.failed += measured.failed
            LatencySample.objects.bulk_update(rows, ["count", "total", "buckets", "failed"])
        return unknown

    def _ids(self, labels: set[str]) -> dict[str, int]:
        """Primary keys of these versions; unregistered versions are left out."""
        if not labels <= self._version_ids.keys():
            self._version_ids = {str(row): row.pk for row in ModelVersion.objects.all()}
        return self._version_ids

    def _keep(self, pending: dict[Key, Measured]) -> None:
        with self._lock:
            for key, measured in pending.items():
                self._pending.setdefault(key, Measured()).merge(measured)
            self._trim()

    def _trim(self) -> None:
        minutes = sorted({key.minute for key in self._pending})
        for key in [key for key in self._pending if key.minute not in minutes[-MINUTES_KEPT:]]:
            del self._pending[key]


def _push_responses(seconds: list[float]) -> None:
    with connection().pipeline(transaction=False) as pipeline:
        pipeline.lpush(RESPONSES_KEY, *seconds)
        pipeline.ltrim(RESPONSES_KEY, 0, RESPONSES_KEPT - 1)
        pipeline.execute()


def response_time() -> float | None:
    """Mean seconds from HTTP in to HTTP out over the last 1000 answers of all web processes."""
    kept = connection().lrange(RESPONSES_KEY, 0, -1)
    return sum(map(float, kept)) / len(kept) if kept else None

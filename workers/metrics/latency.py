"""Collects durations in memory and sends them to the ledger, off the path of any request.

Every process, web or worker, has one Recorder. What all of them have sent is written into the same
rows, so that the rows are the truth about the whole system.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import NamedTuple

from django.db.models import Q
from django.utils import timezone

from workers.broker.connection import connection
from workers.broker.ledger import Field, Packet, Sender
from workers.metrics import counters, shadowing, usage
from workers.metrics.counters import Counters
from workers.metrics.records import Records
from workers.metrics.shadowing import Comparisons
from workers.models import LatencySample
from workers.values.histogram import Histogram

RESPONSES_KEY = "velo:response-times"
RESPONSES_KEPT = 1000
MINUTES_KEPT = 60  # of durations: in memory while Redis is away, of unknown versions in the ledger
METRIC_OF = {
    LatencySample.Stage.QUEUE: counters.QUEUE_SECONDS,
    LatencySample.Stage.MODEL: counters.MODEL_SECONDS,
    LatencySample.Stage.RESPONSE: counters.REQUEST_SECONDS,
}
LATENCY = "latency"  # the first word of its fields in the ledger
TOTAL, FAILED = "total", "failed"  # and the last, or a bucket's number


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
    """Durations of one process that aren't in the ledger yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[Key, Measured] = {}
        self._responses: list[float] = []
        self._sender = Sender()
        self._keys: dict[int, float] = {}
        self.comparisons = Comparisons()
        self.counters = Counters()
        self.records = Records()

    def record(self, stage: LatencySample.Stage, label: str, *durations: float) -> None:
        """Each of `durations` in seconds."""
        if not durations:
            return
        self.counters.observe(METRIC_OF[stage], label, values=durations)
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

    def use_key(self, key: int) -> None:
        """This API key, by its row's primary key, is used now."""
        self._keys[key] = time.time()

    def _measured(self, stage: LatencySample.Stage, label: str) -> Measured:
        """Of this minute."""
        minute = timezone.now().replace(second=0, microsecond=0)
        key = Key(minute, stage.value, label)
        if key not in self._pending:
            self._pending[key] = Measured()
            self._trim()
        return self._pending[key]

    def flush(self) -> None:
        """Send what is pending to the ledger; what can't be sent yet stays, the newest hour of it.

        Raises RedisError.
        """
        self._sender.resend()
        with self._lock:
            pending, self._pending = self._pending, {}
            responses, self._responses = self._responses, []
        keys, self._keys = self._keys, {}
        compared = self.comparisons.take()
        self._sender.send(
            Packet(
                {**to_figures(pending), **shadowing.sums(compared)},
                {**shadowing.minima(compared), **usage.to_figures(keys)},
                self.counters.take(),
            )
        )
        if responses:
            _push_responses(responses)
        self.records.flush()

    def _trim(self) -> None:
        minutes = sorted({key.minute for key in self._pending})
        for key in [key for key in self._pending if key.minute not in minutes[-MINUTES_KEPT:]]:
            del self._pending[key]


def to_figures(pending: Mapping[Key, Measured]) -> dict[Field, float]:
    """As the ledger adds them up."""
    found: dict[Field, float] = {}
    for key, measured in pending.items():
        words = LATENCY, key.minute.isoformat(), key.stage, key.label
        numbers = {TOTAL: measured.histogram.total, FAILED: measured.failed}
        numbers.update(measured.histogram.to_json())
        found |= {(*words, what): number for what, number in numbers.items() if number}
    return found


def from_figures(figures: Mapping[Field, float]) -> dict[Key, Measured]:
    """The latencies among all figures that the ledger has."""
    found: dict[Key, Measured] = {}
    for (first, *words), number in figures.items():
        if first != LATENCY:
            continue
        minute, stage, label, what = words
        key = Key(datetime.fromisoformat(minute), stage, label)
        measured = found.setdefault(key, Measured())
        if what == TOTAL:
            measured.histogram.total = number
        elif what == FAILED:
            measured.failed = round(number)
        else:
            measured.histogram.buckets[int(what)] = round(number)
    return found


def store(measured: Mapping[Key, Measured], ids: Mapping[str, int]) -> dict[Key, Measured]:
    """Add them to the rows, in the transaction of the caller. `ids`: primary keys of the registered
    versions, by label. Returns the newest hour of what belongs to other versions: these are
    registered when their worker's report is written."""
    fresh = {
        (key.minute, key.stage, ids[key.label]): one
        for key, one in measured.items()
        if key.label in ids
    }
    if fresh:
        _add(fresh)
    oldest = timezone.now() - timedelta(minutes=MINUTES_KEPT)
    return {
        key: one for key, one in measured.items() if key.label not in ids and key.minute > oldest
    }


def _add(fresh: Mapping[tuple[datetime, str, int], Measured]) -> None:
    LatencySample.objects.bulk_create(
        [
            LatencySample(minute=minute, stage=stage, model_version_id=version)
            for minute, stage, version in fresh
        ],
        ignore_conflicts=True,
    )
    wanted = [
        Q(minute=minute, stage=stage, model_version_id=version) for minute, stage, version in fresh
    ]
    # Locked, since an older Velo's processes add to them too.
    rows = list(
        LatencySample.objects.select_for_update().filter(reduce(or_, wanted)).order_by("pk")
    )
    for row in rows:
        merged, measured = row.histogram, fresh[row.minute, row.stage, row.model_version_id]
        merged.merge(measured.histogram)
        row.histogram = merged
        row.failed += measured.failed
    LatencySample.objects.bulk_update(rows, ["count", "total", "buckets", "failed"])


def _push_responses(seconds: list[float]) -> None:
    with connection().pipeline(transaction=False) as pipeline:
        pipeline.lpush(RESPONSES_KEY, *seconds)
        pipeline.ltrim(RESPONSES_KEY, 0, RESPONSES_KEPT - 1)
        pipeline.execute()


def response_time() -> float | None:
    """Mean seconds from HTTP in to HTTP out over the last 1000 answers of all web processes."""
    kept = connection().lrange(RESPONSES_KEY, 0, -1)
    return sum(map(float, kept)) / len(kept) if kept else None

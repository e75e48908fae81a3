"""Counters that only grow, for Prometheus: added up in this process, then by Redis for all.

Each has a name and labels. A histogram is a counter for each of its buckets, by its upper bound,
and a counter for the sum of its values.
"""

import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from workers.broker.ledger import Field

SUM, INFINITE = "sum", "+Inf"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
RATIOS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)


class Metric(NamedTuple):
    """What Prometheus is told of a counter. The label "version" is "name@version" in Redis, and two
    labels for Prometheus: model and version."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()  # upper bounds, of a histogram


REQUESTS = Metric(
    "velo_requests", "Requests for models that were answered.", ("endpoint", "version", "status")
)
ERRORS = Metric("velo_errors", "Answers that were errors, refusals included.", ("reason",))
INPUTS = Metric("velo_inputs", "Inputs that were answered.", ("version",))
TOKENS = Metric("velo_tokens", "Tokens of answered inputs that models read.", ("version",))
FAILURES = Metric("velo_failed_attempts", "Attempts of jobs that raised an error.", ("version",))
LOSSES = Metric("velo_lost_workers", "Workers that were lost: dead, or silent for too long.")
RESCUED = Metric("velo_rescued_jobs", "Jobs of lost workers and hung calls that were put back.")
POISONOUS = Metric("velo_poisonous_jobs", "Jobs that failed since workers crashed on them.")
REQUEST_SECONDS = Metric(
    "velo_request_seconds", "From HTTP in to HTTP out, of answers.", ("version",), SECONDS
)
QUEUE_SECONDS = Metric("velo_queue_seconds", "That an input waited.", ("version",), SECONDS)
MODEL_SECONDS = Metric(
    "velo_model_seconds", "Of the model call that an input was in.", ("version",), SECONDS
)
BATCH_INPUTS = Metric("velo_batch_inputs", "Inputs of a model call.", ("version",), SIZES)
BATCH_PADDING = Metric(
    "velo_batch_padding_ratio",
    "Share of padding in the tokens of a model call.",
    ("version",),
    RATIOS,
)
METRICS = (
    *(REQUESTS, ERRORS, INPUTS, TOKENS, FAILURES, LOSSES, RESCUED, POISONOUS),
    *(REQUEST_SECONDS, QUEUE_SECONDS, MODEL_SECONDS, BATCH_INPUTS, BATCH_PADDING),
)


class Counters:
    """Of this process, that Redis hasn't got yet. Any thread may add."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: defaultdict[Field, float] = defaultdict(float)

    def add(self, metric: Metric, *labels: str, by: float = 1.0) -> None:
        """`labels` in the metric's order."""
        with self._lock:
            self._pending[metric.name, *labels] += by

    def observe(self, metric: Metric, *labels: str, values: Sequence[float]) -> None:
        """In a histogram."""
        found = Counter(bisect_left(metric.buckets, value) for value in values)
        with self._lock:
            self._pending[metric.name, *labels, SUM] += sum(values)
            for place, count in found.items():
                self._pending[metric.name, *labels, bound(metric, place)] += count

    def take(self) -> Mapping[Field, float]:
        """All that is pending."""
        with self._lock:
            pending, self._pending = self._pending, defaultdict(float)
        return pending


def bound(metric: Metric, place: int) -> str:
    """The upper bound of a histogram's bucket, as Prometheus writes it."""
    return INFINITE if place == len(metric.buckets) else f"{float(metric.buckets[place])}"

"""What /metrics says, in Prometheus' text form: the counters of all processes, and what waits.

The counters are in Redis, so that it doesn't matter which web process answers.
"""

import json
import platform
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from django.conf import settings
from django.db import InterfaceError, OperationalError
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import (
    Metric as Family,
)
from prometheus_client.registry import Collector
from redis.exceptions import RedisError
from rq.defaults import RQ_KEY_PREFIX
from rq.job import Job

from workers.broker import connection as broker
from workers.broker.clock import clock
from workers.broker.connection import connection
from workers.broker.enqueue import live_workers
from workers.broker.ledger import TOTALS, Field
from workers.broker.names import Lane, is_version, lane_key, leases_key
from workers.metrics import stat
from workers.metrics.counters import INFINITE, METRICS, SUM, Metric, bound
from workers.models import Worker
from workers.values.version_id import VersionId

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition() -> bytes:
    """Also while Redis or the database is away, which it says."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Everything())
    return generate_latest(registry)


class _Everything(Collector):
    def collect(self) -> Iterator[Family]:
        yield _gauge(
            "velo_build_info",
            "1; the versions are in the labels.",
            {_build(): 1.0},
            "velo",
            "python",
        )
        try:
            found = [*_counters(), *_queues()]
            redis_is_up = True
        except RedisError:
            found, redis_is_up = [], False
        yield from found
        yield GaugeMetricFamily("velo_redis_up", "Whether Redis answers.", float(redis_is_up))
        yield from _workers(redis_is_up)


def _build() -> tuple[str, str]:
    return str(settings.SPECTACULAR_SETTINGS["VERSION"]), platform.python_version()


def _counters() -> Iterator[Family]:
    kept = cast(Mapping[bytes, bytes], connection().hgetall(TOTALS))
    by_name: defaultdict[str, dict[Field, float]] = defaultdict(dict)
    for raw, number in kept.items():
        name, *words = json.loads(raw)
        by_name[name][tuple(words)] = float(number)
    for metric in METRICS:
        values = by_name[metric.name]
        yield _histogram(metric, values) if metric.buckets else _counter(metric, values)


def _counter(metric: Metric, values: Mapping[Field, float]) -> Family:
    family = CounterMetricFamily(metric.name, metric.help, labels=_names(metric))
    if not metric.labels:
        family.add_metric([], values.get((), 0.0))
        return family
    for words, value in values.items():
        family.add_metric(_labels(metric, words), value)
    return family


def _histogram(metric: Metric, values: Mapping[Field, float]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=_names(metric))
    series: defaultdict[Field, dict[str, float]] = defaultdict(dict)
    for field, value in values.items():
        series[field[:-1]][field[-1]] = value
    for words, counts in series.items():
        buckets, so_far = [], 0.0
        for place in range(len(metric.buckets) + 1):
            name = bound(metric, place)
            so_far += counts.get(name, 0.0)
            buckets.append((name, so_far))
        assert buckets[-1][0] == INFINITE
        family.add_metric(_labels(metric, words), buckets, counts.get(SUM, 0.0))
    return family


def _names(metric: Metric) -> list[str]:
    """Of Prometheus' labels."""
    found: list[str] = []
    for name in metric.labels:
        found += ["model", "version"] if name == "version" else [name]
    return found


def _labels(metric: Metric, words: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name, word in zip(metric.labels, words, strict=True):
        found += [*_of_version(word)] if name == "version" else [word]
    return found


def _of_version(label: str) -> tuple[str, str]:
    """Model and version; both empty where no version answered."""
    if not is_version(label):
        return label, ""
    found = VersionId.parse(label)
    return found.model, found.version


def _queues() -> Iterator[Family]:
    """What waits, what is in hand, and the workers that serve it. Two round trips."""
    labels = [name for name in broker.names() if is_version(name)]
    lanes = [(label, lane) for label in labels for lane in Lane]
    now = clock.now()
    with connection().pipeline(transaction=False) as pipeline:
        for label, lane in lanes:
            pipeline.llen(lane_key(label, lane))
            pipeline.lindex(lane_key(label, lane), 0)
        for label in labels:
            pipeline.zcount(f"{RQ_KEY_PREFIX}:wip:{label}", now, "+inf")
            pipeline.zcount(leases_key(label), now, "+inf")
        found = pipeline.execute()
    lengths = dict(zip(lanes, found[: 2 * len(lanes) : 2], strict=True))
    oldest = dict(zip(lanes, found[1 : 2 * len(lanes) : 2], strict=True))
    rest = found[2 * len(lanes) :]
    waiting = {lane: job_id for lane, job_id in oldest.items() if job_id}
    since = dict(zip(waiting, _enqueued(waiting.values()), strict=True))

    def by_lane(values: Mapping[tuple[str, Lane], float]) -> dict[tuple[str, ...], float]:
        return {(*_of_version(label), lane.value): value for (label, lane), value in values.items()}

    def by_version(values: Iterable[float]) -> dict[tuple[str, ...], float]:
        return {_of_version(label): value for label, value in zip(labels, values, strict=True)}

    names = ("model", "version", "lane")
    ages = {lane: max(0.0, now - since.get(lane, now)) for lane in lanes}
    yield _gauge("velo_waiting_inputs", "Inputs that wait.", by_lane(lengths), *names)
    yield _gauge("velo_oldest_input_seconds", "How long the first waits.", by_lane(ages), *names)
    in_hand, serving = by_version(rest[::2]), by_version(rest[1::2])
    yield _gauge("velo_jobs_in_hand", "Jobs that workers have claimed.", in_hand, *names[:2])
    yield _gauge("velo_serving_workers", "Live workers that serve it.", serving, *names[:2])


def _enqueued(job_ids: Iterable[bytes]) -> list[float]:
    """When, by Redis's clock."""
    with connection().pipeline(transaction=False) as pipeline:
        for job_id in job_ids:
            pipeline.hget(Job.key_for(job_id.decode()), "meta")
        found = pipeline.execute()
    return [_moment(raw) for raw in found]


def _moment(meta: bytes | None) -> float:
    try:
        return float(json.loads(meta or b"{}")["enqueued"])
    except (ValueError, KeyError, TypeError):
        return clock.now()


def _workers(redis_is_up: bool) -> Iterator[Family]:
    """By state: the rows that /stat and the admin show."""
    states: dict[tuple[str, ...], float] = {}
    age = 0.0
    try:
        rows, age = stat.live(live_workers() if redis_is_up else 0)
        counts = Counter(row.state for row in rows)
        states = {(state.value,): float(counts[state.value]) for state in Worker.State}
        database_is_up = age == 0.0
    except (OperationalError, InterfaceError):
        database_is_up = False
    yield _gauge("velo_workers", "Live workers.", states, "state")
    yield GaugeMetricFamily(
        "velo_database_up", "Whether the database answers.", float(database_is_up)
    )


def _gauge(name: str, text: str, values: Mapping[tuple[str, ...], Any], *labels: str) -> Family:
    family = GaugeMetricFamily(name, text, labels=labels)
    for words, value in values.items():
        family.add_metric(words, float(value))
    return family

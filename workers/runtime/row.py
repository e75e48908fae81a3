"""This worker's row: what it reports of itself, for the database."""

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from django.conf import settings

from workers import predictors
from workers.broker import neighbours, reports
from workers.broker.clock import clock
from workers.catalog import sources
from workers.host import machine
from workers.models import Worker
from workers.predictors import Spec
from workers.runtime import holdings
from workers.runtime.answers import Answers
from workers.runtime.fleet import Fleet
from workers.runtime.lease import Lease
from workers.runtime.threads import Threads
from workers.values.figures import BatchFigures

log = logging.getLogger(__name__)

REPORT_EVERY = 4.0  # seconds; at once where more than figures has changed
# What changes with every batch.
FIGURES = ("jobs_done", "jobs_failed", "model_time", "batches")
HELD_FIGURES = ("batches", "model_time")


class Row:
    """Owns what has been reported last. Redis may have been away at any time: what it doesn't know
    yet is reported at the next call."""

    def __init__(
        self,
        worker: str,
        *,
        state: Callable[[], Worker.State],
        lease: Lease,
        fleet: Fleet,
        answers: Answers,
        threads: Threads,
    ) -> None:
        self._worker = worker
        self._state = state
        self._lease = lease
        self._fleet = fleet
        self._answers = answers
        self._threads = threads
        self._started: str | None = None  # ISO 8601, by the server's clock
        self._digests: dict[str, str] = {}  # by label
        self._news: dict[str, Any] = {}  # that was reported last
        self._again = -float("inf")  # when to report again without news, by the monotonic clock

    def report(self) -> None:
        """If something has changed, or a while after the last time. Raises RedisError."""
        said = self._said(self._state(), self._fleet.declared_error)
        news = _without_figures(said)
        if news != self._news or time.monotonic() >= self._again:
            self._send(said)
            self._news = news
        if not settings.VELO_THREADS:
            self._threads.share_with(neighbours.count(self._worker, machine.shares()))

    def report_end(self, state: Worker.State, note: str) -> None:
        """After the last report. Raises RedisError."""
        self._send(self._said(state, note or self._fleet.declared_error))
        neighbours.leave(self._worker, machine.shares())

    def _send(self, said: Mapping[str, Any]) -> None:
        reports.report(self._worker, said)
        self._again = time.monotonic() + REPORT_EVERY

    def _said(self, state: Worker.State, note: str) -> dict[str, Any]:
        if self._started is None:
            self._started = datetime.fromtimestamp(clock.now(), UTC).isoformat()
        held = self._fleet.held
        runners = [one.runner for one in held.values() if one.runner]
        times = [(count, mean) for runner in runners for count, mean in [runner.times()] if count]
        calls = sum(count for count, _ in times)
        return {
            "node": socket.gethostname(),
            "host": machine.shares(),
            "pid": os.getpid(),
            "started": self._started,
            "follows": self._fleet.follows,
            "state": state.value,
            "note": note,
            "declares": self._declares(held),
            "serves": next(iter(self._lease.versions), None),
            "queues": ",".join(self._lease.queues),
            "jobs_done": self._answers.done,
            "jobs_failed": self._answers.failed,
            "engine": runners[0].predictor.engine_chosen if runners else "",
            "model_time": sum(count * mean for count, mean in times) / calls if calls else None,
            "batches": BatchFigures.sum(runner.batches.to_json() for runner in runners).to_json(),
            "held": {label: one.to_json() for label, one in held.items()},
        }

    def _declares(self, held: Mapping[str, holdings.Held]) -> dict[str, Any] | None:
        """The version that it was started with, as lifecycle.declare takes it: once it is loaded,
        or at once where the admin decides, and it may never be."""
        spec = self._fleet.declared
        if not spec:
            return None
        one = held.get(spec.label)
        runner = one.runner if one else None
        if runner is None and holdings.serves_declared(self._fleet.plan, spec):
            return None
        found: dict[str, Any] = {
            "label": spec.label,
            "name": spec.name,
            "version": spec.version,
            "source": predictors.declared_source(),
            "kind": spec.kind,
            "digest": self._digest(spec),
        }
        if one and runner:
            found["dimensions"] = runner.predictor.dimensions
            found["facts"] = dict(runner.predictor.facts)
            found["engine"] = runner.predictor.engine_chosen
            found["memory"] = one.memory
        return found

    def _digest(self, spec: Spec) -> str:
        """Of its files, as far as they can still be read: the model is in memory in any case."""
        if spec.label not in self._digests:
            try:
                digest = sources.digest(spec.folder) if spec.folder else ""
            except sources.SourceError as error:
                log.warning("%s: its files can't be read any more: %s", spec.label, error)
                digest = ""
            self._digests[spec.label] = digest
        return self._digests[spec.label]


def _without_figures(said: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in said.items() if name not in FIGURES}
    found["held"] = {
        label: {name: value for name, value in one.items() if name not in HELD_FIGURES}
        for label, one in said["held"].items()
    }
    return found

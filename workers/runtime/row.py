"""This worker's row: what the database is told of it, and of the workers that it saw die."""

import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings
from django.db.models.functions import Now

from workers import predictors
from workers.broker.rescue import Loss
from workers.catalog import lifecycle, sources
from workers.host import machine
from workers.models import ModelVersion, Worker
from workers.predictors import Spec
from workers.runtime import holdings
from workers.runtime.answers import Answers
from workers.runtime.fleet import Fleet
from workers.runtime.lease import Lease
from workers.runtime.threads import Threads
from workers.values.figures import BatchFigures

log = logging.getLogger(__name__)

LOSSES_KEPT = 1000  # of other workers, in memory, while the database is away


class Row:
    """Owns what the database has been told last. The database may have been away at any time: what
    isn't there yet is made at the next write."""

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
        self._is_there = False
        self._declared: str | None = None  # the label of the version that the database knows of
        self._noted = ""
        self._losses: deque[Loss] = deque(maxlen=LOSSES_KEPT)
        self._version_ids: dict[str | None, int] = {}

    def note_losses(self, losses: Iterable[Loss]) -> None:
        """To be written with the next write. Any thread may call this."""
        self._losses.extend(losses)

    def write(self) -> None:
        """Raises DatabaseError."""
        if not self._is_there:
            self._create()
            self._is_there = True
        self.declare()
        fields = self._figures()
        if self._noted != self._fleet.declared_error:
            fields["note"] = self._fleet.declared_error
        written = Worker.objects.filter(pk=self._worker).update(
            state=self._state(), last_seen=Now(), **fields
        )
        self._noted = self._fleet.declared_error
        if not written:  # somebody has deleted it, or this is another database
            self._is_there, self._declared = False, None
        while self._losses:
            Worker.objects.record(self._losses[0])
            self._losses.popleft()
        if not settings.VELO_THREADS:
            neighbours = Worker.objects.alive().filter(host=machine.shares()).count()
            self._threads.share_with(neighbours)

    def write_end(self, state: Worker.State, note: str) -> None:
        """After the last write."""
        fields = {"note": note} if note else {}
        Worker.objects.filter(pk=self._worker).update(state=state, **fields)

    def _create(self) -> None:
        # A worker that is restarted under a name given to it (`--name`) takes up its old row.
        Worker.objects.update_or_create(
            id=self._worker,
            defaults={
                "node": socket.gethostname(),
                "host": machine.shares(),
                "pid": os.getpid(),
                "follows": self._fleet.follows,
                "state": Worker.State.LOADING,
                "note": "",
                "started": Now(),
                "last_seen": Now(),
                **self._figures(),
            },
        )
        self._noted = ""

    def declare(self) -> None:
        """Tell the database of the version that it was started with: once it is loaded, or at once
        where the admin decides, and it may never be."""
        spec = self._fleet.declared
        if not spec or self._declared == spec.label:
            return
        one = self._fleet.held.get(spec.label)
        runner = one.runner if one else None
        if runner is None and holdings.serves_declared(self._fleet.plan, spec):
            return
        found: dict[str, Any] = {}
        if one and runner:
            found["dimensions"] = runner.predictor.dimensions
            found["engine"] = runner.predictor.engine_chosen
            found["memory"] = one.memory
        lifecycle.declare(
            spec.name,
            spec.version,
            predictors.declared_source(),
            kind=spec.kind,
            digest=_digest(spec),
            worker=self._worker,
            **found,
        )
        self._declared = spec.label

    def _figures(self) -> dict[str, Any]:
        held = self._fleet.held
        runners = [one.runner for one in held.values() if one.runner]
        times = [(count, mean) for runner in runners for count, mean in [runner.times()] if count]
        calls = sum(count for count, _ in times)
        first = next(iter(self._lease.versions), None)
        return {
            "queues": ",".join(self._lease.queues),
            "jobs_done": self._answers.done,
            "jobs_failed": self._answers.failed,
            "model_version_id": self._version_id(first),
            "engine": runners[0].predictor.engine_chosen if runners else "",
            "model_time": sum(count * mean for count, mean in times) / calls if calls else None,
            "batches": BatchFigures.sum(runner.batches.to_json() for runner in runners).to_json(),
            "held": {label: one.to_json() for label, one in held.items()},
        }

    def _version_id(self, label: str | None) -> int | None:
        if label not in self._version_ids:
            self._version_ids = {str(row): row.pk for row in ModelVersion.objects.all()}
        return self._version_ids.get(label) if label else None


def _digest(spec: Spec) -> str:
    """Of its files, as far as they can still be read: the model is in memory in any case."""
    try:
        return sources.digest(spec.folder) if spec.folder else ""
    except sources.SourceError as error:
        log.warning("%s: its files can't be read any more: %s", spec.label, error)
        return ""

"""The worker: RQ's loop around a model that is held in memory."""

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.models.functions import Now
from redis.exceptions import RedisError
from rq.worker import WorkerStatus

from workers import predictors
from workers.broker import leases, rescue
from workers.broker.enqueue import promote_due
from workers.broker.rescue import Loss
from workers.catalog import lifecycle, plan, sources
from workers.host import machine, memory
from workers.host.ticker import Ticker
from workers.models import ModelVersion, Worker
from workers.runtime import holdings
from workers.runtime.version_worker import VersionWorker
from workers.values.figures import BatchFigures

log = logging.getLogger(__name__)

BEAT = 1.0  # seconds between two writes of the row
LOSSES_KEPT = 1000  # of other workers, in memory, while the database is away
DATABASE_PATIENCE = 3.0  # seconds that the start of a worker may wait for it
LAST_BEAT = 1.0  # seconds that the last one may take, so that a database can't hold up the end
LEASE_BEAT = 0.5  # seconds between two renewals of the lease
LONGEST_PAUSE = 30.0  # seconds before a pool starts a worker again that can't start


class InferenceWorker(VersionWorker):
    """Runs jobs in its own process, where the model is.

    `manage.py rqworker` and `rqworker-pool` start it, since settings.RQ names it. It registers
    with RQ, and so takes jobs, only when its model is loaded and warm.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._row_is_there = False
        self._told: str | None = None  # the label of the version that the database knows we serve
        self._losses: deque[Loss] = deque(maxlen=LOSSES_KEPT)
        self._version_ids: dict[str | None, int] = {}

    # --- life ---------------------------------------------------------------------------------

    def work(self, *args: Any, logging_level: str | None = None, **kwargs: Any) -> bool:
        """Load its versions, then take jobs until told to stop. Returns whether any was taken."""
        memory.leave_no_holes()
        # RQ logs three lines for each job at INFO.
        kwargs["logging_level"] = "DEBUG" if logging_level == "DEBUG" else "WARNING"
        # RQ's scheduler is a forked process, which would outlive a killed worker; our own thread
        # does what retries need of it.
        kwargs["with_scheduler"] = False
        signal.signal(signal.SIGTERM, _leave)
        row = Ticker("worker row", BEAT, self._write_row)
        lease = Ticker("worker lease", LEASE_BEAT, self._renew_lease)
        care = Ticker("worker care", LEASE_BEAT, self._care_for_queues)
        versions = Ticker("worker versions", LEASE_BEAT, self.follow_plan)
        watchdog = Ticker("worker watchdog", LEASE_BEAT, self.watchdog.look)
        end = Worker.State.STOPPED, ""
        try:
            row.start()
            self._losses.extend(rescue.rescue(judge_leases=False))
            self._begin()
            self._losses.extend(rescue.rescue_namesake(self.name))
            lease.start()
            care.start()
            versions.start()
            watchdog.start()
            return super().work(*args, **kwargs)
        except predictors.ModelError as error:
            end = Worker.State.FAILED, str(error)
            self._pause_before_the_next(error)
            raise SystemExit(f"Worker {self.name} can't start: {error}") from error
        except RedisError as error:
            end = Worker.State.STOPPED, f"Redis: {error}"
            raise SystemExit(f"Worker {self.name} lost Redis: {error}") from error
        finally:
            watchdog.stop()
            self.watchdog.rest()
            versions.stop(within=LAST_BEAT)
            care.stop()
            lease.stop()
            if self.left_nothing and self.registration:  # otherwise others find that we are gone
                with suppress(RedisError):  # the lease ends by itself
                    self.registration.give_back()
            if not row.stop(last=partial(self._write_end, *end), within=LAST_BEAT):
                log.warning("worker %s: its end isn't in the database, which is silent", self.name)
            log.info("worker %s: %s", self.name, end[0].value)

    def _pause_before_the_next(self, error: predictors.ModelError) -> None:
        """Whoever starts us again waits longer each time, except for RQ's pool."""
        with suppress(RedisError):
            failures = leases.note_failed_start(self.told, str(error))
            if multiprocessing.parent_process():
                pause = min(2.0 ** (failures - 1), LONGEST_PAUSE)
                log.error("worker %s can't start: %s; ends in %g s", self.name, error, pause)
                time.sleep(pause)

    def _begin(self) -> None:
        """Load what it shall hold, and let the others know of it. Raises ModelError."""
        self.load_first()
        telling = threading.Thread(target=self._tell, name="worker begins", daemon=True)
        telling.start()
        telling.join(DATABASE_PATIENCE)  # if it is away, its row's thread tells it later
        if self.declared and telling.is_alive():
            plan.publish_if_there_is_none(self.declared)
        leases.forget_failed_starts(self.told)
        log.info("worker %s: ready with %s", self.name, ", ".join(self.serves) or "no version")

    def _tell(self) -> None:
        """Let the database and the others know what it serves, so that requests find their way."""
        try:
            self._declare()
            self.plan = plan.publish()
        except Exception as error:  # noqa: BLE001 - without a database it serves all the same
            log.warning("worker %s: the database is away: %s", self.name, error)
            if self.declared:
                plan.publish_if_there_is_none(self.declared)
        finally:
            connections.close_all()

    # --- the lease ----------------------------------------------------------------------------

    def _renew_lease(self) -> None:
        if self._registered:
            self.pulse()

    def _care_for_queues(self) -> None:
        """Apart from the lease, which must not wait for any of this."""
        if self.registration:
            self._losses.extend(rescue.rescue(judge_leases=self.steadiness.may_judge()))
            self.put_back_strays()
            for each in self.queues:
                promote_due(each)

    # --- what the threads write ---------------------------------------------------------------

    def _write_row(self) -> None:
        """The database may have been away at any time: what isn't there yet is made now."""
        if not self._row_is_there:
            self._create_row()
            self._row_is_there = True
        self._declare()
        if not self._registered:
            state = Worker.State.LOADING
        elif self.get_state() == WorkerStatus.BUSY:
            state = Worker.State.BUSY
        else:
            state = Worker.State.IDLE
        written = Worker.objects.filter(pk=self.name).update(
            state=state, last_seen=Now(), **self._figures()
        )
        if not written:  # somebody has deleted it, or this is another database
            self._row_is_there, self._told = False, None
        while self._losses:
            Worker.objects.record(self._losses[0])
            self._losses.popleft()
        if not settings.VELO_THREADS:
            neighbours = Worker.objects.alive().filter(host=machine.identity()).count()
            self.threads = machine.threads(neighbours)
        self.recorder.flush()
        lifecycle.give_up_silent_checks()
        lifecycle.conclude()
        plan.publish()

    def _write_end(self, state: Worker.State, note: str) -> None:
        self._write_row()
        Worker.objects.filter(pk=self.name).update(state=state, note=note)

    def _create_row(self) -> None:
        # A worker that is restarted under a name given to it (`--name`) takes up its old row.
        Worker.objects.update_or_create(
            id=self.name,
            defaults={
                "node": socket.gethostname(),
                "host": machine.identity(),
                "pid": os.getpid(),
                "follows": self.follows,
                "state": Worker.State.LOADING,
                "note": "",
                "started": Now(),
                "last_seen": Now(),
                **self._figures(),
            },
        )

    def _declare(self) -> None:
        """Tell the database of the version that it was started with: once it is loaded, or at once
        where the admin decides, and it may never be."""
        spec = self.declared
        if not spec or self._told == spec.label:
            return
        one = self.held.get(spec.label)
        runner = one.runner if one else None
        if runner is None and holdings.serves_declared(self.plan, spec):
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
            digest=sources.digest(spec.folder) if spec.folder else "",
            worker=self.name,
            **found,
        )
        self._told = spec.label

    def _figures(self) -> dict[str, Any]:
        held = self.held.copy()
        runners = [one.runner for one in held.values() if one.runner]
        times = [(count, mean) for runner in runners for count, mean in [runner.times()] if count]
        calls = sum(count for count, _ in times)
        first = next(iter(self.serves), None)
        return {
            "queues": ",".join(self.queue_names()),
            "jobs_done": self.done,
            "jobs_failed": self.failed,
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

    @property
    def _registered(self) -> bool:
        return self.birth_date is not None


def _leave(signum: int, frame: FrameType | None) -> None:
    """SIGTERM while the model loads: nothing is in hand, so leave at once."""
    raise SystemExit(0)

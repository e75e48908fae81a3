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
from django.db.models.functions import Now
from redis.exceptions import RedisError
from rq.worker import WorkerStatus

from workers import host, jobs, leases, predictors, rescue
from workers.batch_worker import BatchWorker
from workers.latency import Recorder
from workers.leases import Renewal
from workers.models import ModelVersion, Worker
from workers.queue import promote_due
from workers.rescue import Loss
from workers.runner import Runner
from workers.ticker import Ticker

log = logging.getLogger(__name__)

BEAT = 1.0  # seconds between two writes of the row
LOSSES_KEPT = 1000  # of other workers, in memory, while the database is away
LAST_BEAT = 1.0  # seconds that the last one may take, so that a database can't hold up the end
LEASE_BEAT = 0.5  # seconds between two renewals of the lease
LONGEST_PAUSE = 30.0  # seconds before a pool starts a worker again that can't start


class InferenceWorker(BatchWorker):
    """Runs jobs in its own process, where the model is.

    `manage.py rqworker` and `rqworker-pool` start it, since settings.RQ names it. It registers
    with RQ, and so takes jobs, only when its model is loaded and warm.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.recorder = Recorder()
        self.registration = leases.of_this_process(self.name, self.queue_names())
        self._steadiness = leases.Steadiness()
        self._pulse_lock = threading.Lock()
        self._leased = False
        self._row_is_there = self._version_is_there = False
        self._losses: deque[Loss] = deque(maxlen=LOSSES_KEPT)

    # --- life ---------------------------------------------------------------------------------

    def work(self, *args: Any, logging_level: str | None = None, **kwargs: Any) -> bool:
        """Load the model, then take jobs until told to stop. Returns whether any was taken."""
        # RQ logs three lines for each job at INFO.
        kwargs["logging_level"] = "DEBUG" if logging_level == "DEBUG" else "WARNING"
        # RQ's scheduler is a forked process, which would outlive a killed worker; our own thread
        # does what retries need of it.
        kwargs["with_scheduler"] = False
        signal.signal(signal.SIGTERM, _leave)
        row = Ticker("worker row", BEAT, self._write_row)
        lease = Ticker("worker lease", LEASE_BEAT, self._renew_lease)
        care = Ticker("worker care", LEASE_BEAT, self._care_for_queues)
        watchdog = Ticker("worker watchdog", LEASE_BEAT, self.watchdog.look)
        end = Worker.State.STOPPED, ""
        try:
            row.start()
            self._losses.extend(rescue.rescue(judge_leases=False))
            self._load()
            self._losses.extend(rescue.rescue_namesake(self.name))
            lease.start()
            care.start()
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
            care.stop()
            lease.stop()
            if self.left_nothing:  # otherwise others have to find that we are gone
                with suppress(RedisError):  # the lease ends by itself
                    self.registration.give_back()
            if not row.stop(last=partial(self._write_end, *end), within=LAST_BEAT):
                log.warning("worker %s: its end isn't in the database, which is silent", self.name)
            log.info("worker %s: %s", self.name, end[0].value)

    def _pause_before_the_next(self, error: predictors.ModelError) -> None:
        """Whoever starts us again waits longer each time, except for RQ's pool."""
        with suppress(RedisError):
            failures = leases.note_failed_start(self.queue_names(), str(error))
            if multiprocessing.parent_process():
                pause = min(2.0 ** (failures - 1), LONGEST_PAUSE)
                log.error("worker %s can't start: %s; ends in %g s", self.name, error, pause)
                time.sleep(pause)

    def _load(self) -> None:
        log.info("worker %s: loading the model", self.name)
        predictor = predictors.load(self.threads)
        self.runner = Runner(predictor, self.name, self.recorder)
        self.runner.use_threads(self.threads)
        predictor.warm_up()
        jobs.install(self.runner)
        leases.forget_failed_starts(self.queue_names())
        log.info("worker %s: engine: %s", self.name, predictor.engine_chosen)
        log.info(
            "worker %s: a model call costs %d tokens besides its own",
            self.name,
            predictor.call_tokens,
        )
        log.info("worker %s: ready with %s", self.name, self.runner.label)

    # --- the lease ----------------------------------------------------------------------------

    def _renew_lease(self) -> None:
        if self._registered:
            self.pulse()

    def _care_for_queues(self) -> None:
        """Apart from the lease, which must not wait for any of this."""
        if self._leased:
            self._losses.extend(rescue.rescue(judge_leases=self._steadiness.may_judge()))
            self.put_back_strays()
            for queue in self.queues:
                promote_due(queue)

    def pulse(self) -> None:
        """Renew the lease; where it is gone, begin anew: the jobs in hand may be somebody else's by
        now, and if so our answers to them don't count."""
        with self._pulse_lock:
            renewal = Renewal.GONE
            try:
                renewal = self.registration.renew(anew=not self._leased)
                if renewal is Renewal.GONE:
                    self.connection.delete(self.key)
                    self.register_birth()
                    self.registration.renew(anew=True)
                    log.warning("worker %s: its lease was gone; it is registered again", self.name)
            finally:
                self._steadiness.note(renewal if self._leased else Renewal.GONE)
            self._leased = True

    # --- what the threads write ---------------------------------------------------------------

    def _write_row(self) -> None:
        """The database may have been away at any time: what isn't there yet is made now."""
        if not self._row_is_there:
            self._create_row()
            self._row_is_there = True
        if self.runner and not self._version_is_there:
            self._register_version(self.runner.predictor)
            self._version_is_there = True
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
            self._row_is_there = self._version_is_there = False
        while self._losses:
            Worker.objects.record(self._losses[0])
            self._losses.popleft()
        if not settings.VELO_THREADS:
            neighbours = Worker.objects.alive().filter(host=host.identity()).count()
            self.threads = host.threads(neighbours)
        self.recorder.flush()

    def _write_end(self, state: Worker.State, note: str) -> None:
        self._write_row()
        Worker.objects.filter(pk=self.name).update(state=state, note=note)

    def _create_row(self) -> None:
        # A worker that is restarted under a name given to it (`--name`) takes up its old row.
        Worker.objects.update_or_create(
            id=self.name,
            defaults={
                "node": socket.gethostname(),
                "host": host.identity(),
                "pid": os.getpid(),
                "queues": ",".join(self.queue_names()),
                "state": Worker.State.LOADING,
                "note": "",
                "started": Now(),
                "last_seen": Now(),
                **self._figures(),
            },
        )

    def _register_version(self, predictor: predictors.Predictor) -> None:
        version, _ = ModelVersion.objects.update_or_create(
            name=predictor.name,
            version=predictor.version,
            defaults={
                "source": predictor.source,
                "task": predictor.task,
                "dimensions": predictor.dimensions,
                "engine": predictor.engine_chosen,
                "state": ModelVersion.State.READY,
            },
        )
        Worker.objects.filter(pk=self.name).update(
            model_version=version, engine=predictor.engine_chosen
        )

    def _figures(self) -> dict[str, Any]:
        return {
            "jobs_done": self.done,
            "jobs_failed": self.failed,
            "model_time": self.runner.model_time() if self.runner else None,
            "batches": self.runner.batches.to_json() if self.runner else {},
        }

    @property
    def _registered(self) -> bool:
        return self.birth_date is not None


def _leave(signum: int, frame: FrameType | None) -> None:
    """SIGTERM while the model loads: nothing is in hand, so leave at once."""
    raise SystemExit(0)

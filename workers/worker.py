"""The worker: RQ's loop around a model that is held in memory."""

import logging
import os
import signal
import socket
from contextlib import suppress
from types import FrameType
from typing import Any

from django.conf import settings
from django.db.models.functions import Now
from redis.exceptions import RedisError
from rq.worker import WorkerStatus

from workers import host, jobs, leases, predictors
from workers.batch_worker import BatchWorker
from workers.latency import Recorder
from workers.models import ModelVersion, Worker
from workers.queue import promote_due
from workers.runner import Runner
from workers.ticker import Ticker

log = logging.getLogger(__name__)

BEAT = 1.0  # seconds


class InferenceWorker(BatchWorker):
    """Runs jobs in its own process, where the model is.

    `manage.py rqworker` and `rqworker-pool` start it, since settings.RQ names it. It registers
    with RQ, and so takes jobs, only when its model is loaded and warm.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.recorder = Recorder()

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
        lease = Ticker("worker lease", BEAT, self._renew_lease)
        end = Worker.State.STOPPED, ""
        try:
            self._create_row()
            row.start()
            self._load()
            lease.start()
            return super().work(*args, **kwargs)
        except predictors.ModelError as error:
            end = Worker.State.FAILED, str(error)
            raise SystemExit(f"Worker {self.name} can't start: {error}") from error
        except RedisError as error:
            end = Worker.State.STOPPED, f"Redis: {error}"
            raise SystemExit(f"Worker {self.name} lost Redis: {error}") from error
        finally:
            lease.stop()
            self._end(row, *end)

    def _load(self) -> None:
        log.info("worker %s: loading the model", self.name)
        predictor = predictors.load(self.threads)
        self.runner = Runner(predictor, self.name, self.recorder)
        self.runner.use_threads(self.threads)
        predictor.warm_up()
        jobs.install(self.runner)
        self._register_version(predictor)
        log.info("worker %s: engine: %s", self.name, predictor.engine_chosen)
        log.info(
            "worker %s: a model call costs %d tokens besides its own",
            self.name,
            predictor.call_tokens,
        )
        log.info("worker %s: ready with %s", self.name, self.runner.label)

    def _end(self, row: Ticker, state: Worker.State, note: str) -> None:
        row.stop()
        with suppress(RedisError):  # the lease ends by itself
            leases.give_back(self.name, self.queue_names())
        self.recorder.flush()
        Worker.objects.filter(pk=self.name).update(
            state=state, note=note, last_seen=Now(), **self._figures()
        )
        log.info("worker %s: %s", self.name, state.value)

    # --- what the threads write ---------------------------------------------------------------

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

    def _write_row(self) -> None:
        if not self._registered:
            state = Worker.State.LOADING
        elif self.get_state() == WorkerStatus.BUSY:
            state = Worker.State.BUSY
        else:
            state = Worker.State.IDLE
        Worker.objects.filter(pk=self.name).update(state=state, last_seen=Now(), **self._figures())
        if not settings.VELO_THREADS:
            neighbours = Worker.objects.alive().filter(host=host.identity()).count()
            self.threads = host.threads(neighbours)
        self.recorder.flush()

    def _renew_lease(self) -> None:
        if self._registered:
            leases.renew(self.name, self.queue_names())
            for queue in self.queues:
                promote_due(queue)

    @property
    def _registered(self) -> bool:
        return self.birth_date is not None


def _leave(signum: int, frame: FrameType | None) -> None:
    """SIGTERM while the model loads: nothing is in hand, so leave at once."""
    raise SystemExit(0)

"""The worker: RQ's loop around a model that is held in memory."""

import logging
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Any

from django.conf import settings
from django.db.models.functions import Now
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq import Queue, SimpleWorker
from rq.exceptions import DequeueTimeout, StopRequested
from rq.job import Job
from rq.worker import WorkerStatus

from workers import host, jobs, leases, predictors
from workers.engine import Engine
from workers.latency import Recorder
from workers.models import ModelVersion, Worker
from workers.queue import clock, promote_due
from workers.ticker import Ticker
from workers.wire import JSONSerializer

log = logging.getLogger(__name__)

BEAT = 1.0  # seconds
DEQUEUE_TIMEOUT = 1  # seconds, RQ takes whole ones; also how long a stop may go unnoticed
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0  # seconds between two tries to reach Redis


class InferenceWorker(SimpleWorker):
    """Runs jobs in its own process, where the model is.

    `manage.py rqworker` and `rqworker-pool` start it, since settings.RQ names it. It registers
    with RQ, and so takes jobs, only when its model is loaded and warm.
    """

    log_result_lifespan = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # django-rq's commands pass pickle here, whatever the queue's settings say.
        kwargs["serializer"] = JSONSerializer
        super().__init__(*args, **kwargs)
        self.done = self.failed = 0
        self.threads = settings.VELO_THREADS or host.threads(1)
        self.recorder = Recorder()
        self.engine: Engine | None = None
        self._stop_asked = threading.Event()

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
        predictor = predictors.load()
        self.engine = Engine(predictor, self.name, self.recorder)
        self.engine.use_threads(self.threads)
        predictor.warm_up()
        jobs.install(self.engine)
        self._register_version(predictor)
        log.info("worker %s: ready with %s", self.name, self.engine.label)

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
                "state": ModelVersion.State.READY,
            },
        )
        Worker.objects.filter(pk=self.name).update(model_version=version)

    def _figures(self) -> dict[str, Any]:
        return {
            "jobs_done": self.done,
            "jobs_failed": self.failed,
            "model_time": self.engine.model_time() if self.engine else None,
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

    # --- jobs ---------------------------------------------------------------------------------

    def execute_job(self, job: Job, queue: Queue) -> None:
        now = clock.now()
        if _is_late(job, now) and not _is_asked_again(job):
            # Its caller has gone: computing it would steal time from those who wait.
            log.info("worker %s: job %s dropped, its deadline has passed", self.name, job.id)
            job.delete()
            return
        if self.engine:
            asked = job.enqueued_at if _is_asked_again(job) else None
            since = asked.timestamp() if asked else _time(job, "enqueued")
            self.engine.queue_time = 0.0 if since is None else max(0.0, now - since)
            self.engine.use_threads(self.threads)
        super().execute_job(job, queue)

    def handle_job_failure(self, job: Job, *args: Any, **kwargs: Any) -> None:
        if _is_late(job, clock.now()):
            job.retries_left = 0  # nobody waits any more
        super().handle_job_failure(job, *args, **kwargs)

    def perform_job(self, *args: Any, **kwargs: Any) -> bool:
        succeeded = super().perform_job(*args, **kwargs)
        if succeeded:
            self.done += 1
        else:
            self.failed += 1
        return succeeded

    # --- stopping -----------------------------------------------------------------------------

    def _shutdown(self) -> None:
        """RQ raises StopRequested here, wherever the main thread is: a job just taken from the
        queue would be lost. We only leave word; `dequeue_job_and_maintain_ttl` reads it."""
        self._stop_requested = True
        self._stop_asked.set()

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """RQ's, in short waits, so that a stop is seen between them, also while Redis is away."""
        pause, idle_since = FIRST_PAUSE, time.monotonic()
        while not self._stop_requested:
            try:
                self.set_state(WorkerStatus.IDLE)
                self.heartbeat()
                if self.should_run_maintenance_tasks:
                    self.run_maintenance_tasks()
                return self.queue_class.dequeue_any(
                    self._ordered_queues,
                    None if timeout is None else DEQUEUE_TIMEOUT,
                    connection=self.connection,
                    job_class=self.job_class,
                    serializer=self.serializer,
                    death_penalty_class=self.death_penalty_class,
                )
            except DequeueTimeout:
                pause = FIRST_PAUSE
                if max_idle_time is not None and time.monotonic() - idle_since >= max_idle_time:
                    return None
            except (RedisConnectionError, RedisTimeoutError) as error:
                log.warning("worker %s: Redis: %s; again in %g s", self.name, error, pause)
                self._stop_asked.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
        raise StopRequested


def _time(job: Job, name: str) -> float | None:
    """The time that dispatch noted in the job's meta; a job of somebody else's may hold anything
    there."""
    noted = job.meta.get(name) if isinstance(job.meta, dict) else None
    return noted if isinstance(noted, float | int) else None


def _is_late(job: Job, now: float) -> bool:
    deadline = _time(job, "deadline")
    return deadline is not None and now > deadline


def _is_asked_again(job: Job) -> bool:
    """Put back into the queue when its deadline had passed: by a person, in the admin."""
    enqueued = job.enqueued_at
    return enqueued is not None and _is_late(job, enqueued.timestamp())


def _leave(signum: int, frame: FrameType | None) -> None:
    """SIGTERM while the model loads: nothing is in hand, so leave at once."""
    raise SystemExit(0)

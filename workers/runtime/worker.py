"""RQ's worker, as far as RQ needs one: the glue between its loop and the parts of ours.

The only file that touches RQ's private names.
"""

import logging
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

from redis.exceptions import RedisError
from rq import Queue, SimpleWorker, worker_registration
from rq.exceptions import StopRequested
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry, FinishedJobRegistry
from rq.utils import now as rq_now
from rq.worker import WorkerStatus

from workers.broker import attempts, claims, deadlines
from workers.broker.claims import Answer, Claim, LeaseOver
from workers.broker.clock import clock
from workers.broker.connection import queue
from workers.broker.wire import JSONSerializer
from workers.models import Worker
from workers.runtime.fleet import labels_of
from workers.runtime.parts import assemble
from workers.runtime.runner import Raised

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0  # seconds between two tries to reach Redis
HEARTBEAT_EVERY = 10.0  # seconds; RQ forgets a worker after worker_ttl + 60
REDIS_PATIENCE = 5  # seconds for an answer
CLOCKS_AGREE = 10.0  # seconds between this machine's clock and the server's


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
        self._beaten = -float("inf")
        self._leaves = False
        self._parts = assemble(
            self,
            self.name,
            self.connection,
            [each.name for each in self.queues],
            state=self._row_state,
            default_ttl=self.default_result_ttl,
        )

    @property
    def done(self) -> int:
        """Inputs that it has answered."""
        return self._parts.answers.done

    @property
    def failed(self) -> int:
        """Attempts that have raised."""
        return self._parts.answers.failed

    def _row_state(self) -> Worker.State:
        if self.birth_date is None:
            return Worker.State.LOADING
        return Worker.State.BUSY if self.get_state() == WorkerStatus.BUSY else Worker.State.IDLE

    # --- RQ's loop ----------------------------------------------------------------------------

    def work(self, *args: Any, logging_level: str | None = None, **kwargs: Any) -> bool:
        """Load its versions, then take jobs until told to stop. Returns whether it took any."""
        # RQ logs three lines for each job at INFO.
        kwargs["logging_level"] = "DEBUG" if logging_level == "DEBUG" else "WARNING"
        # RQ's scheduler is a forked process, which would outlive a killed worker; our own thread
        # does what retries need of it.
        kwargs["with_scheduler"] = False
        if kwargs.get("max_jobs") is not None:
            self._parts.loop.take_one_at_a_time()  # RQ counts windows
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._leave)

        def loop() -> bool:
            if self._leaves:  # the loading of a model has swallowed the SystemExit
                raise SystemExit(0)
            return super(InferenceWorker, self).work(*args, **kwargs)

        try:
            return self._parts.life.live(loop)
        finally:
            self._parts.close()

    def _leave(self, signum: int, frame: FrameType | None) -> None:
        """A signal while the model loads: nothing is in hand, so leave at once. RQ's own handlers
        follow."""
        self._leaves = True
        raise SystemExit(0)

    def register_birth(self) -> None:
        self._take_from(self._parts.lease.queues)
        super().register_birth()
        self._parts.life.registered()

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Any, Queue] | None:
        """A window of claimed jobs, where RQ gives one job. Waits in short pieces, so that a stop
        is seen between them, also while Redis is away."""
        pause, idle_since = FIRST_PAUSE, time.monotonic()
        while not self._stop_requested:
            self._parts.intake.begin_round()
            try:
                if self.should_run_maintenance_tasks:
                    self.run_maintenance_tasks()
                try:
                    window = self._parts.loop.claim()
                except LeaseOver:
                    self._parts.lease.pulse()
                    continue
                if window:
                    self._state = WorkerStatus.BUSY
                    return window, queue(window[0].queue)
                if self._state != WorkerStatus.IDLE:
                    self.set_state(WorkerStatus.IDLE)
                if timeout is None:  # burst
                    return None
                self.heartbeat()
                self._parts.intake.wait()
                pause = FIRST_PAUSE
            except RedisError as error:  # it is away, or refuses to be written to
                log.warning("worker %s: Redis: %s; again in %g s", self.name, error, pause)
                self._parts.intake.pause(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            if max_idle_time is not None and time.monotonic() - idle_since >= max_idle_time:
                return None
        raise StopRequested

    def execute_job(self, window: Any, queue: Queue) -> None:
        self._parts.loop.run(window)

    def check_for_suspension(self, burst: bool) -> None:
        """The claim script does: a suspended worker claims nothing."""

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        if timeout is None and pipeline is None:
            if time.monotonic() - self._beaten < HEARTBEAT_EVERY:
                return
            self._beaten = time.monotonic()
        with suppress(RedisError):  # RQ ends the worker on any error here
            super().heartbeat(timeout, pipeline)

    @property
    def connection_timeout(self) -> int:
        """Seconds that Redis may take for an answer; RQ would wait for minutes."""
        return REDIS_PATIENCE

    def run_maintenance_tasks(self) -> None:
        try:
            super().run_maintenance_tasks()
        except Exception:  # RQ ends the worker on any error here; a foreign job may cause one
            log.exception("worker %s: RQ's maintenance failed", self.name)
            self._cleaned()

    def clean_registries(self) -> None:
        """RQ goes by this machine's clock: if it is wrong, jobs in hand count as abandoned.
        Versions that nobody serves any more have answers to forget too."""
        wrong = time.time() - clock.now()
        if abs(wrong) >= CLOCKS_AGREE:
            log.error("worker %s: this machine's clock is wrong by %.0f s", self.name, wrong)
            self._cleaned()
            return
        super().clean_registries()
        for label in labels_of(self._parts.fleet.plan):
            for registry in (FinishedJobRegistry, FailedJobRegistry):
                registry(queue=queue(label)).cleanup()

    def _cleaned(self) -> None:
        self.last_cleaned_at = rq_now()  # type: ignore[assignment]  # RQ declares None

    def _shutdown(self) -> None:
        """RQ raises StopRequested here, wherever the main thread is: a job just claimed would be
        lost. We only leave word; `dequeue_job_and_maintain_ttl` reads it."""
        self._stop_requested = True
        self._parts.stop()

    def teardown(self) -> None:
        self._parts.answers.flush()
        try:
            self._parts.intake.put_back_strays()
            self._parts.intake.put_back_strays()  # jobs that were strays before
            super().teardown()
            self._parts.life.left_nothing()
        except RedisError as error:
            log.warning("worker %s: its jobs are left to others: %s", self.name, error)

    # --- RQ's own list of workers (lease.Registry) --------------------------------------------

    def register_again(self) -> None:
        self.connection.delete(self.key)
        self.register_birth()

    def register_queues(self) -> None:
        self._take_from(self._parts.lease.queues)
        worker_registration.register(self)
        self.connection.hset(self.key, "queues", ",".join(self.queue_names()))

    def unregister_queue(self, name: str) -> None:
        self.connection.srem(worker_registration.WORKERS_BY_QUEUE_KEY % name, self.key)

    def _take_from(self, names: Sequence[str]) -> None:
        self.queues = [queue(name) for name in names]
        self._ordered_queues = self.queues.copy()

    # --- how RQ ends a job (answers.Outcomes) -------------------------------------------------

    def succeed(self, answer: Answer) -> None:
        """For a job on which others depend."""
        job, origin = self._job(answer.claim), queue(answer.claim.queue)
        job.started_at, job.ended_at = answer.claim.started_at, rq_now()
        job._result = answer.value
        job._status = JobStatus.FINISHED
        execution = answer.claim.execution(self.connection, self.name)
        self.handle_job_success(job, origin, origin.started_job_registry, execution)

    def fail(self, claim: Claim, raised: Raised) -> None:
        """Retry policy included."""
        job = self._job(claim)
        job.started_at = claim.started_at
        execution = claim.execution(self.connection, self.name)
        self._finalize_failure(job, queue(claim.queue), execution, raised)

    def run_stock(self, claim: Claim) -> bool:
        """A job that isn't for a model, or asks for more than a batch gives; whether it succeeded.

        Raises NoSuchJobError.
        """
        execution = claim.execution(self.connection, self.name)
        self.executions[execution.id] = execution
        return self.perform_job(self._job(claim), queue(claim.queue), execution)

    def _job(self, claim: Claim) -> Job:
        """Raises NoSuchJobError."""
        return self.job_class.fetch(claim.job_id, self.connection, self.serializer)

    def handle_job_success(
        self, job: Job, queue: Queue, started_job_registry: Any, execution: Execution
    ) -> None:
        if claims.is_current(self.connection, self.name, job.id):
            super().handle_job_success(job, queue, started_job_registry, execution)
        else:
            log.warning("job %s is no longer ours: its answer is dropped", job.id)

    def handle_job_failure(
        self,
        job: Job,
        queue: Queue,
        started_job_registry: Any = None,
        exc_string: str = "",
        execution: Execution | None = None,
    ) -> None:
        if not claims.is_current(self.connection, self.name, job.id):
            log.warning("job %s is no longer ours: its failure is dropped", job.id)
            return
        if deadlines.is_late(job.meta, clock.now()):
            job.retries_left = 0  # nobody waits any more
        final = not job.should_retry
        if not final:
            attempts.note(job, self.name, exc_string, execution)
        super().handle_job_failure(job, queue, started_job_registry, exc_string, execution)
        if final:
            attempts.release(job)

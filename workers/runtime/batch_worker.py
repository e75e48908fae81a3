"""The batch path of a worker: RQ's loop, with many jobs claimed and answered where RQ takes one."""

import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, cast

from django.conf import settings
from redis.exceptions import RedisError
from rq import Queue
from rq.exceptions import NoSuchJobError, StopRequested
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.timeouts import JobTimeoutException
from rq.utils import now as rq_now
from rq.worker import WorkerStatus

from workers import jobs
from workers.broker import claims, deadlines, rescue
from workers.broker.claims import Answer, Claim, LeaseOver
from workers.broker.clock import clock
from workers.broker.connection import queue
from workers.broker.doorman import Doorman
from workers.broker.names import is_version
from workers.host import machine
from workers.host.watchdog import Watchdog
from workers.predictors import Encoded
from workers.runtime.runner import Output, Raised, Runner, TookTooLong
from workers.runtime.steady_worker import SUSPENSION_EVERY, SteadyWorker
from workers.values import batching

log = logging.getLogger(__name__)

WAIT = 1  # seconds for a job, and so how long a stop may go unnoticed
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0  # seconds between two tries to reach Redis


@dataclass(frozen=True)
class ForModel:
    """Claimed jobs that one model shall answer."""

    runner: Runner
    jobs: list[Claim]
    encoded: list[Encoded | Raised]  # of each of them


@dataclass(frozen=True)
class Prepared:
    """Claimed jobs, sorted out."""

    for_models: list[ForModel]
    others: list[Claim]
    at: float  # when, by Redis's clock

    @property
    def readable(self) -> int:
        """Inputs that a model will compute."""
        return sum(isinstance(one, Encoded) for part in self.for_models for one in part.encoded)


class BatchWorker(SteadyWorker):
    """Answers with the runner of a job's queue; a job that isn't for a model runs as RQ runs it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.threads = settings.VELO_THREADS or machine.threads(1)
        self.watchdog = Watchdog(self.name)
        self.done = self.failed = 0  # jobs
        self.left_nothing = False  # behind in Redis, at the end
        self.turns = 0  # how often nothing was in hand
        self._first = 0  # which queue is looked into first
        self._doorman = Doorman(self.connection)
        self._held: set[str] = set()  # executions that are in hand
        self._stray: set[str] = set()  # that were nobody's when we last looked
        self._stop_asked = threading.Event()
        self._window = self._limit = settings.VELO_BATCH_MAX
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="worker answers")
        self._claimer = ThreadPoolExecutor(1, thread_name_prefix="worker claims")
        self._written: Future[None] = Future()
        self._written.set_result(None)

    def work(self, *args: Any, **kwargs: Any) -> bool:
        if kwargs.get("max_jobs") is not None:
            self._window = self._limit = 1  # RQ counts windows
        return super().work(*args, **kwargs)

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Any, Queue] | None:
        """A window of claimed jobs, where RQ gives one job. Waits in short pieces, so that a stop
        is seen between them, also while Redis is away."""
        pause, idle_since = FIRST_PAUSE, time.monotonic()
        while not self._stop_requested:
            self.turns += 1
            try:
                if self.should_run_maintenance_tasks:
                    self.run_maintenance_tasks()
                try:
                    window = self._claim()
                except LeaseOver:
                    self.pulse()
                    continue
                if window:
                    self._state = WorkerStatus.BUSY
                    return window, self.queues[0]
                if self._state != WorkerStatus.IDLE:
                    self.set_state(WorkerStatus.IDLE)
                if timeout is None:  # burst
                    return None
                self.heartbeat()
                self._wait_for_jobs()
                pause = FIRST_PAUSE
            except RedisError as error:  # it is away, or refuses to be written to
                log.warning("worker %s: Redis: %s; again in %g s", self.name, error, pause)
                self._stop_asked.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            if max_idle_time is not None and time.monotonic() - idle_since >= max_idle_time:
                return None
        raise StopRequested

    def pulse(self) -> None:
        """Renew the lease."""

    def _claim(self, suspects: bool = True) -> list[Claim]:
        """Raises LeaseOver and RedisError."""

        def more(limit: int, suspects: bool) -> list[Claim]:
            queues = self._in_turn()
            found = claims.claim(self.connection, self.name, queues, limit, suspects)
            self._held.update(claimed.execution_key for claimed in found)
            return found

        window = more(self._limit, suspects)
        alone = any(claimed.suspect for claimed in window)
        if window and settings.VELO_BATCH_WAIT_MS and len(window) < self._limit and not alone:
            self._stop_asked.wait(settings.VELO_BATCH_WAIT_MS / 1000)
            with suppress(RedisError, LeaseOver):  # what is claimed is answered all the same
                window += more(self._limit - len(window), suspects=False)
        return window

    def _in_turn(self) -> list[Queue]:
        """Each version's queue is the first one in turn, so that a busy one doesn't starve the
        others; among RQ's own queues the first one goes first always."""
        plain = [each for each in self._ordered_queues if not is_version(each.name)]
        parts = [[each] for each in self._ordered_queues if is_version(each.name)]
        parts += [plain] if plain else []
        self._first = (self._first + 1) % len(parts)
        return list(chain(*parts[self._first :], *parts[: self._first]))

    def put_back_strays(self) -> None:
        """Jobs that Redis takes for ours though they are in nobody's hand go back to their queue:
        the reply to a claim was lost, or an answer couldn't be written."""
        index = self.connection.smembers(self.executions_key)
        strays = {execution.decode() for execution in cast(set[bytes], index)} - self._held
        # One that was there when we looked before isn't on its way to us.
        if lost := sorted(strays & self._stray):
            put = claims.put_back(self.connection, self.name, lost)
            log.warning("worker %s: %d jobs were in nobody's hand: put back", self.name, put)
        self._stray = strays

    def _release(self, claimed: Claim) -> None:
        self._held.discard(claimed.execution_key)

    def runner_for(self, name: str) -> Runner | None:
        """Who answers jobs of this queue; None if nobody here does."""
        raise NotImplementedError

    def _wait_for_jobs(self) -> None:
        """Until a job waits for a model, or not for long: RQ's own jobs may wait so long."""
        queues = self._ordered_queues
        keys = [each.key for each in queues if is_version(each.name)]
        self._doorman.wait(keys or [each.key for each in queues], WAIT)

    def execute_job(self, window: Any, queue: Queue) -> None:
        """Answer a window of claimed jobs, and those that are claimed while the model computes."""
        try:
            prepared: Prepared | None = self._prepare(window)
            while prepared:
                following = self._infer(prepared) if prepared.for_models else None
                if prepared.others:
                    self._run_first(prepared.others)
                self._limit = 1 if prepared.others else self._window
                prepared = following.result() if following else None
        except Exception:  # the worker must live on; what was in hand goes back to its queue
            log.exception("worker %s: its jobs go back to their queue", self.name)
        finally:
            self._claimer.submit(lambda: None).result()  # after any claim that goes on
            self._written.result()
            self._held.clear()

    def _prepare(self, window: list[Claim]) -> Prepared:
        """Sort out those for the model, with their texts encoded; late ones are dropped."""
        now = clock.now()
        by_queue: dict[str, list[Claim]] = {}
        others, homeless = [], []
        for claimed in window:
            if deadlines.nobody_waits(claimed, now):
                self._drop(claimed)
            elif claimed.asked() is None:
                others.append(claimed)
            elif self.runner_for(claimed.queue) is None:
                homeless.append(claimed)
            else:
                by_queue.setdefault(claimed.queue, []).append(claimed)
        if homeless:
            self._put_back(homeless)
        for_models = []
        with self.watchdog.expect(settings.VELO_JOB_TIMEOUT):  # tokenizers hang too
            for name, jobs_of_queue in by_queue.items():
                runner = self.runner_for(name)
                assert runner
                inputs = [asked.input for one in jobs_of_queue if (asked := one.asked())]
                for_models.append(ForModel(runner, jobs_of_queue, runner.encode(inputs)))
        return Prepared(for_models, others, now)

    def _put_back(self, jobs: list[Claim]) -> None:
        executions = [claimed.execution_key for claimed in jobs]
        claims.put_back(self.connection, self.name, executions)
        self._held.difference_update(executions)

    def _drop(self, claimed: Claim) -> None:
        """Its caller has gone: computing it would steal time from those who wait."""
        log.info("job %s dropped, its deadline has passed", claimed.job_id)
        with suppress(NoSuchJobError, RedisError):
            self._job(claimed).delete()
        self._release(claimed)

    def _ahead(self) -> Prepared | None:
        """In a thread of its own, while the model computes: what waits now is claimed and encoded
        when the model is free."""
        try:
            window = self._claim(suspects=False)
            return self._prepare(window) if window else None
        except LeaseOver:
            return None
        except RedisError as error:
            log.warning("worker %s: Redis: %s", self.name, error)
            return None

    def _may_claim_ahead(self) -> bool:
        """Now and then RQ's own loop has its turn: it looks for a suspension, and after itself."""
        looked = time.monotonic() - self._looked < SUSPENSION_EVERY
        return looked and not self._stop_requested and self._limit == self._window > 1

    def _infer(self, prepared: Prepared) -> Future[Prepared | None] | None:
        """Returns what is claimed meanwhile, if anything may be."""
        following = None
        for number, part in enumerate(prepared.for_models, 1):
            part.runner.use_threads(self.threads)
            batches = self._cut(part)
            for count, batch in enumerate(batches, 1):
                # When one input waited, nobody else does yet; or it is a suspect, and stays alone.
                last = number == len(prepared.for_models) and count == len(batches)
                ahead = last and prepared.readable > 1 and not prepared.others
                if ahead and self._may_claim_ahead():
                    following = self._claimer.submit(self._ahead)
                self._compute(part, batch, prepared.at)
        return following

    def _cut(self, part: ForModel) -> list[list[int]]:
        """Into batches, as indices of its jobs; those that can't be read fail here."""
        readable = []
        for index, one in enumerate(part.encoded):
            if isinstance(one, Encoded):
                readable.append((index, one.tokens))
            else:
                self._fail(part.jobs[index], one)
        batches = batching.cut(
            [tokens for _, tokens in readable],
            settings.VELO_BATCH_MAX,
            settings.VELO_BATCH_TOKENS,
            part.runner.predictor.call_tokens,
        )
        return [[readable[i][0] for i in batch] for batch in batches]

    def _compute(self, part: ForModel, batch: list[int], started: float) -> None:
        """One model call, and its answers. `started`: when its jobs were taken up, by Redis's
        clock."""
        begun = time.perf_counter()
        jobs = [part.jobs[index] for index in batch]
        if settings.VELO_CHAOS and any(job.is_for(self.name) for job in jobs):
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            encoded = cast(list[Encoded], [part.encoded[index] for index in batch])
            outputs = part.runner.answers(encoded, partial(self._guard, jobs))
        except TookTooLong:
            self._suspect(jobs)
        else:
            self._answer(part.runner, jobs, outputs, started, begun)

    def _suspect(self, jobs: list[Claim]) -> None:
        """They had all the time that they may have, and nobody knows which of them took it: each
        runs alone, as if the worker had died of it."""
        now = clock.now()
        executions = []
        for claimed in jobs:
            if deadlines.nobody_waits(claimed, now):
                self._drop(claimed)
            else:
                executions.append(claimed.execution_key)
        if executions:
            put, failed = rescue.charge(self.name, executions, rescue.HUNG)
            log.warning(
                "worker %s: %s: %d jobs put back, %d failed", self.name, rescue.HUNG, put, failed
            )
        self._held.difference_update(executions)

    def _answer(
        self,
        runner: Runner,
        jobs: list[Claim],
        outputs: list[Output | Raised],
        started: float,
        begun: float,
    ) -> None:
        """Write what the model said of a batch. `started`: when it was taken up, by Redis's clock;
        `begun`: since when the worker has worked on it."""
        answers, failures, waits = [], [], []
        for claimed, output in zip(jobs, outputs, strict=True):
            if isinstance(output, Output):
                waits.append(deadlines.waited(claimed, started))
                answers.append(self._answer_of(runner, claimed, output, waits[-1]))
            else:
                failures.append((claimed, output))
        self._write(answers, time.perf_counter() - begun)
        runner.record_waits(waits)
        for claimed, raised in failures:
            self._fail(claimed, raised)

    def _answer_of(self, runner: Runner, claimed: Claim, output: Output, waited: float) -> Answer:
        asked = claimed.asked()
        if asked and asked.compare is not None:  # nobody reads what a shadow says
            likeness = runner.compare(asked.compare, output)
            return Answer(claimed, {"likeness": likeness}, ttl=0)
        return Answer(claimed, vars(runner.prediction(output, waited)), self._ttl(claimed))

    def _run_first(self, others: list[Claim]) -> None:
        """One job that isn't for the model, as RQ would; further ones wait for their turn in the
        queue."""
        first, *rest = others
        if rest:
            self._put_back(rest)
        self._run(first)

    def _ttl(self, claimed: Claim) -> int:
        """Seconds that the answer is kept."""
        default: int = self.default_result_ttl
        return default if claimed.result_ttl is None else claimed.result_ttl

    @contextmanager
    def _guard(self, jobs: list[Claim]) -> Iterator[None]:
        """Raises JobTimeoutException in a model call that takes longer than any of its jobs may, or
        than anybody waits for them. Where nothing can be raised, the watchdog ends the process when
        it takes longer than they may."""
        timeouts = [claimed.timeout for claimed in jobs]
        if min(timeouts) <= 0:
            yield
            return
        now = clock.now()
        allowed = max(math.ceil(min(one.timeout, deadlines.remaining(one, now))) for one in jobs)
        with (
            self.watchdog.expect(max(timeouts)),
            self.death_penalty_class(max(1, allowed), JobTimeoutException),
        ):
            yield

    def _write(self, answers: list[Answer], seconds: float) -> None:
        """In a thread of its own, while the model computes the next batch; one write at a time."""
        self._written.result()
        self._written = self._writer.submit(self._write_now, answers, seconds)

    def _write_now(self, answers: list[Answer], seconds: float) -> None:
        if not answers:
            return
        try:
            outcomes = claims.finish(self.connection, self.name, answers, seconds)
            self.done += outcomes.count(claims.WRITTEN)
            for answer, outcome in zip(answers, outcomes, strict=True):
                if outcome == claims.FENCED:
                    log.warning("job %s is not ours any more, nor its answer", answer.claim.job_id)
                elif outcome == claims.HAS_DEPENDENTS:
                    self._succeed(answer)
        except RedisError as error:  # these jobs will be put back
            log.warning(
                "worker %s: %d answers can't be written: %s", self.name, len(answers), error
            )
        except Exception:  # the worker must live on
            log.exception("worker %s: %d answers can't be written", self.name, len(answers))
        finally:
            self._held.difference_update(answer.claim.execution_key for answer in answers)

    def _succeed(self, answer: Answer) -> None:
        """RQ's way, for a job on which others depend."""
        job, queue = self._job(answer.claim), self._queue(answer.claim)
        job.started_at, job.ended_at = answer.claim.started_at, rq_now()
        job._result = answer.value
        job._status = JobStatus.FINISHED
        execution = answer.claim.execution(self.connection, self.name)
        self.handle_job_success(job, queue, queue.started_job_registry, execution)
        self.done += 1

    def _fail(self, claimed: Claim, raised: Raised) -> None:
        """RQ's way, retry policy included."""
        self.failed += 1
        asked, runner = claimed.asked(), self.runner_for(claimed.queue)
        if asked and asked.compare is not None and runner:
            runner.compare_failed(asked.compare)
        try:
            job = self._job(claimed)
            job.started_at = claimed.started_at
            execution = claimed.execution(self.connection, self.name)
            self._finalize_failure(job, self._queue(claimed), execution, raised)
        except NoSuchJobError:
            log.info("job %s was deleted while it ran", claimed.job_id)
        except RedisError:
            log.exception("worker %s: the failure of a job can't be written", self.name)
        finally:
            self._release(claimed)

    def _run(self, claimed: Claim) -> None:
        """A job that isn't for the model, or asks for more than a batch gives: RQ's way."""
        jobs.install(self.runner_for(claimed.queue))
        expected = self.watchdog.expect(claimed.timeout) if claimed.timeout > 0 else nullcontext()
        with suppress(NoSuchJobError), expected:
            job = self._job(claimed)
            execution = claimed.execution(self.connection, self.name)
            self.executions[execution.id] = execution
            if self.perform_job(job, self._queue(claimed), execution):
                self.done += 1
            else:
                self.failed += 1
        self._release(claimed)

    def _job(self, claimed: Claim) -> Job:
        return self.job_class.fetch(claimed.job_id, self.connection, self.serializer)

    def _queue(self, claimed: Claim) -> Queue:
        return queue(claimed.queue)

    def handle_job_success(
        self, job: Job, queue: Queue, started_job_registry: Any, execution: Execution
    ) -> None:
        if claims.is_current(self.connection, self.name, job.id):
            super().handle_job_success(job, queue, started_job_registry, execution)
        else:
            log.warning("job %s is not ours any more, nor its answer", job.id)

    def handle_job_failure(
        self,
        job: Job,
        queue: Queue,
        started_job_registry: Any = None,
        exc_string: str = "",
        execution: Execution | None = None,
    ) -> None:
        if not claims.is_current(self.connection, self.name, job.id):
            log.warning("job %s is not ours any more, nor its failure", job.id)
            return
        if deadlines.is_late(job.meta, clock.now()):
            job.retries_left = 0  # nobody waits any more
        super().handle_job_failure(job, queue, started_job_registry, exc_string, execution)

    # --- stopping -----------------------------------------------------------------------------

    def _shutdown(self) -> None:
        """RQ raises StopRequested here, wherever the main thread is: a job just claimed would be
        lost. We only leave word; `dequeue_job_and_maintain_ttl` reads it."""
        self._stop_requested = True
        self._stop_asked.set()

    def teardown(self) -> None:
        self._written.result()
        try:
            self.put_back_strays()
            self.put_back_strays()  # those that were strays before
            super().teardown()
            self.left_nothing = True
        except RedisError as error:
            log.warning("worker %s: its jobs are left to others: %s", self.name, error)

"""A worker's loop over batches: it prepares what is claimed, cuts it, and computes it."""

import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Protocol

from django.conf import settings
from redis import Redis
from redis.exceptions import RedisError
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.timeouts import JobTimeoutException, get_default_death_penalty_class

from workers import jobs
from workers.broker import deadlines, rescue
from workers.broker.claims import Answer, Claim, LeaseOver, Question
from workers.broker.clock import clock
from workers.broker.wire import JSONSerializer
from workers.host.watchdog import Watchdog
from workers.predictors import Encoded, InputError
from workers.runtime.answers import Answers
from workers.runtime.intake import Intake
from workers.runtime.runner import Output, Raised, Runner, TookTooLong, told
from workers.runtime.threads import Threads
from workers.runtime.window import Part, Window
from workers.values import batching

log = logging.getLogger(__name__)

LOOP_TURN = 1.0  # seconds after which RQ's own loop has its turn, also under load

RunStock = Callable[[Claim], bool]  # runs a job in RQ's own way; returns whether it succeeded


class Runners(Protocol):
    """Where the model of a queue is found."""

    def runner_for(self, queue: str) -> Runner | None:
        """None if this worker doesn't hold it."""


class BatchLoop:
    """Owns the window: how many inputs are claimed at a time, and what is done with them."""

    def __init__(
        self,
        redis: Redis,
        worker: str,
        *,
        intake: Intake,
        answers: Answers,
        runners: Runners,
        threads: Threads,
        watchdog: Watchdog,
        run_stock: RunStock,
        default_ttl: int,
    ) -> None:
        """`default_ttl`: seconds that an answer is kept whose job doesn't say."""
        self._redis = redis
        self._worker = worker
        self._intake = intake
        self._answers = answers
        self._runners = runners
        self._threads = threads
        self._watchdog = watchdog
        self._run_stock = run_stock
        self._default_ttl = default_ttl
        self._stopping = False
        self._window = self._limit = settings.VELO_BATCH_MAX
        self._claimer = ThreadPoolExecutor(1, thread_name_prefix="worker claims")

    def take_one_at_a_time(self) -> None:
        """From now on a window is one job."""
        self._window = self._limit = 1

    def stop(self) -> None:
        """Claim nothing ahead from now on."""
        self._stopping = True

    def close(self) -> None:
        """End the thread that claims ahead."""
        self._claimer.shutdown()

    def claim(self) -> list[Claim]:
        """A window of jobs, with nothing in hand. Raises LeaseOver and RedisError."""
        return self._intake.claim(self._limit)

    def run(self, claimed: Sequence[Claim]) -> None:
        """Answer these jobs, and the jobs that are claimed while the model computes."""
        until = time.monotonic() + LOOP_TURN
        try:
            window: Window | None = self._prepare(claimed)
            while window:
                following = self._compute_all(window, until)
                if window.others:
                    self._run_first(window.others)
                self._limit = 1 if window.others else self._window
                window = following.result() if following else None
        except Exception:  # the worker must live on; what was in hand goes back to its queue
            log.exception("worker %s: its jobs go back to their queue", self._worker)
        finally:
            self._claimer.submit(lambda: None).result()  # after any claim that goes on
            self._answers.flush()
            self._intake.release_all()

    # --- preparing ----------------------------------------------------------------------------

    def _prepare(self, claimed: Sequence[Claim]) -> Window:
        """Sort out the questions, with their inputs encoded; late jobs are dropped."""
        now = clock.now()
        by_runner: dict[Runner, list[Question]] = {}
        others, homeless = [], []
        for claim in claimed:
            questions = claim.questions()
            if deadlines.nobody_waits(claim, now):
                self._drop(claim)
            elif not questions:
                others.append(claim)
            elif runner := self._runners.runner_for(claim.queue):
                by_runner.setdefault(runner, []).extend(questions)
            else:
                homeless.append(claim)
        if homeless:
            self._intake.put_back(homeless)
        with self._watchdog.expect(settings.VELO_JOB_TIMEOUT):  # tokenizers hang too
            parts = [
                Part.of(
                    runner,
                    questions,
                    runner.encode(
                        [one.input for one in questions], [one.parameters for one in questions]
                    ),
                )
                for runner, questions in by_runner.items()
            ]
        return Window(parts, others, now)

    def _drop(self, claim: Claim) -> None:
        """Its caller has gone: computing it would take time from the callers that wait."""
        what = "job %s dropped, its deadline has passed"
        log.info(what, claim.named, extra=claim.for_log)
        with suppress(NoSuchJobError, RedisError):
            Job.fetch(claim.job_id, self._redis, JSONSerializer).delete()
        self._intake.release([claim])

    def _ahead(self) -> Window | None:
        """In a thread of its own, while the model computes."""
        try:
            claimed = self._intake.claim(self._limit, suspects=False)
            return self._prepare(claimed) if claimed else None
        except LeaseOver:
            return None
        except RedisError as error:
            log.warning("worker %s: Redis: %s", self._worker, error)
            return None

    # --- computing ----------------------------------------------------------------------------

    def _compute_all(self, window: Window, until: float) -> Future[Window | None] | None:
        """Returns what is claimed meanwhile, if anything may be claimed ahead.

        When only one input waited, no other waits yet; or it is a suspect, and stays alone.
        """
        batches = [
            (part, batch) for part in window.parts for batch in self._cut(part, window.taken_up)
        ]
        following = None
        for number, (part, batch) in enumerate(batches, 1):
            last = number == len(batches)
            if last and window.readable > 1 and not window.others and self._may_claim_ahead(until):
                following = self._claimer.submit(self._ahead)
            part.runner.use_threads(self._threads.count)
            self._compute(part, batch, window.taken_up)
        return following

    def _may_claim_ahead(self, until: float) -> bool:
        in_time = time.monotonic() < until
        return in_time and not self._stopping and self._limit == self._window > 1

    def _cut(self, part: Part, taken_up: float) -> list[list[int]]:
        """Into batches, as indices of its questions; unreadable questions fail here, and questions
        that take no model call are answered."""
        readable: list[tuple[int, int]] = []
        answers: list[Answer] = []
        for index, one in enumerate(part.encoded):
            output = told(one) if isinstance(one, Encoded) else one
            if isinstance(one, Encoded) and output is None:
                readable.append((index, one.tokens))
            elif output is not None:
                question = part.questions[index]
                waited = deadlines.waited(question.claim, taken_up)
                answers += self._settled(part, question, output, waited)
        if answers:
            self._answers.write(answers, 0.0)
        batches = batching.cut(
            [tokens for _, tokens in readable],
            settings.VELO_BATCH_MAX,
            settings.VELO_BATCH_TOKENS,
            part.runner.predictor.call_tokens,
        )
        return [[readable[i][0] for i in batch] for batch in batches]

    def _compute(self, part: Part, batch: Sequence[int], taken_up: float) -> None:
        """One model call, and its answers."""
        begun = time.perf_counter()
        batch = [index for index in batch if not part.is_over(index)]
        questions = [part.questions[index] for index in batch]
        if settings.VELO_CHAOS and any(one.input == self._worker for one in questions):
            os.kill(os.getpid(), signal.SIGKILL)
        encoded = [one for index in batch if isinstance(one := part.encoded[index], Encoded)]
        if not encoded:
            return
        try:
            outputs = part.runner.answers(encoded, partial(self._guard, questions))
        except TookTooLong:
            part.end(questions)
            self._suspect(list({one.claim.job_id: one.claim for one in questions}.values()))
            return
        answers: list[Answer] = []
        failures, waits = [], []
        for question, output in zip(questions, outputs, strict=True):
            if isinstance(output, Output):
                waits.append(deadlines.waited(question.claim, taken_up))
                answers += self._settled(part, question, output, waits[-1])
            else:
                failures.append((question, output))
        self._answers.write(answers, time.perf_counter() - begun)
        part.runner.record_waits(waits)
        late: list[Answer] = []
        for question, raised in failures:
            late += self._settled(part, question, raised, 0.0)
        if late:
            self._answers.write(late, 0.0)

    @contextmanager
    def _guard(self, questions: Sequence[Question]) -> Iterator[None]:
        """Raises JobTimeoutException in a model call that takes longer than any of its jobs may, or
        than anybody waits for them. Where nothing can be raised, the watchdog ends the process when
        the call takes longer than the jobs may."""
        claimed = [one.claim for one in questions]
        timeouts = [claim.timeout for claim in claimed]
        if min(timeouts) <= 0:
            with self._watchdog.expect(None):
                yield
            return
        now = clock.now()
        allowed = max(
            math.ceil(min(claim.timeout, deadlines.remaining(claim, now))) for claim in claimed
        )
        penalty: Any = get_default_death_penalty_class()
        with (
            self._watchdog.expect(max(timeouts)),
            penalty(max(1, allowed), JobTimeoutException),
        ):
            yield

    def _suspect(self, claimed: Sequence[Claim]) -> None:
        """They had all the time that they may have, and it isn't known which of them took it: each
        runs alone, as if the worker had died of it."""
        now = clock.now()
        late = [claim for claim in claimed if deadlines.nobody_waits(claim, now)]
        for claim in late:
            self._drop(claim)
        rest = [claim for claim in claimed if claim not in late]
        if rest:
            executions = [claim.execution_key for claim in rest]
            put, failed = rescue.charge(self._worker, executions, rescue.HUNG)
            log.warning(
                "worker %s: %s: %d jobs put back, %d failed",
                *(self._worker, rescue.HUNG, put, failed),
            )
        self._intake.release(rest)

    # --- answering ----------------------------------------------------------------------------

    def _settled(
        self, part: Part, question: Question, output: Output | Raised, waited: float
    ) -> list[Answer]:
        """The answer that its job has now, if there is one to write; a failure is written here."""
        runner, claim = part.runner, question.claim
        if sheet := part.sheets.get(claim.job_id):
            answered = runner.prediction(output, waited) if isinstance(output, Output) else None
            sheet.fill(question.place, vars(answered) if answered else None)
            if not sheet.is_complete:
                return []
            ttl = self._default_ttl if claim.result_ttl is None else claim.result_ttl
            counted = (sheet.inputs_answered, sheet.tokens, runner.label)
            return [Answer(claim, sheet.value(), ttl, *counted)]
        if isinstance(output, Output):
            return [self._answer(runner, question, output, waited)]
        if question.parameters and isinstance(output[1], InputError):
            return [self._refusal(runner, question, output[1])]
        self._fail(runner, question, output)
        return []

    def _answer(self, runner: Runner, question: Question, output: Output, waited: float) -> Answer:
        if question.compare is not None:  # nobody reads what a shadow says
            likeness = runner.compare(question.compare, output)
            return Answer(question.claim, {"likeness": likeness}, ttl=0)
        ttl = question.claim.result_ttl
        prediction = runner.prediction(output, waited)
        return Answer(
            question.claim,
            vars(prediction),
            self._default_ttl if ttl is None else ttl,
            tokens=prediction.tokens,
            version=runner.label,
        )

    def _refusal(self, runner: Runner, question: Question, error: InputError) -> Answer:
        """What the caller hears of an input that doesn't go with the request's parameters: the same
        would happen at another attempt, so it isn't a failure."""
        if question.compare is not None:
            runner.compare_failed(question.compare)
        refused = {"refused": {"code": error.code, "message": str(error)}}
        ttl = question.claim.result_ttl
        return Answer(question.claim, refused, self._default_ttl if ttl is None else ttl)

    def _fail(self, runner: Runner, question: Question, raised: Raised) -> None:
        if question.compare is not None:
            runner.compare_failed(question.compare)
        runner.record_failure()
        self._answers.fail(question.claim, raised)

    def _run_first(self, others: Sequence[Claim]) -> None:
        """One job that isn't for a model; further jobs wait for their turn in the queue."""
        first, *rest = others
        if rest:
            self._intake.put_back(rest)
        jobs.install(self._runners.runner_for(first.queue))
        with (
            suppress(NoSuchJobError),
            self._watchdog.expect(first.timeout if first.timeout > 0 else None),
        ):
            self._answers.count(self._run_stock(first))
        self._intake.release([first])

"""How a worker's results and failures reach Redis: from a thread of its own."""

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from redis import Redis
from redis.exceptions import RedisError
from rq.exceptions import NoSuchJobError

from workers.broker import claims
from workers.broker.claims import Answer, Claim
from workers.runtime.intake import Intake
from workers.runtime.runner import Raised

log = logging.getLogger(__name__)


class Outcomes(Protocol):
    """RQ's own way of ending a job, with callbacks, dependents and the retry policy."""

    def succeed(self, answer: Answer) -> None:
        """Raises RedisError and NoSuchJobError."""

    def fail(self, claim: Claim, raised: Raised) -> None:
        """Raises RedisError and NoSuchJobError."""


class Answers:
    """Owns the pending write: there is one at a time, while the model computes the next batch."""

    def __init__(self, redis: Redis, worker: str, intake: Intake, outcomes: Outcomes) -> None:
        self._redis = redis
        self._worker = worker
        self._intake = intake
        self._outcomes = outcomes
        self._done = self._failed = 0
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="worker answers")
        self._pending: Future[None] = Future()
        self._pending.set_result(None)

    @property
    def done(self) -> int:
        """Inputs that this worker has answered."""
        return self._done

    @property
    def failed(self) -> int:
        """Attempts that have raised."""
        return self._failed

    def count(self, succeeded: bool) -> None:
        """A job has run in RQ's own way."""
        if succeeded:
            self._done += 1
        else:
            self._failed += 1

    def write(self, answers: Sequence[Answer], seconds: float) -> None:
        """`seconds`: how long the worker has worked on all of them."""
        self.flush()
        if answers:
            self._pending = self._writer.submit(self._write, answers, seconds)

    def flush(self) -> None:
        """Wait until nothing is pending."""
        self._pending.result()

    def close(self) -> None:
        """End the thread; what is pending is written first."""
        self._writer.shutdown()

    def _write(self, answers: Sequence[Answer], seconds: float) -> None:
        try:
            outcomes = claims.finish(self._redis, self._worker, answers, seconds)
            for answer, outcome in zip(answers, outcomes, strict=True):
                if outcome == claims.WRITTEN:
                    self._done += answer.inputs
                elif outcome == claims.FENCED:
                    log.warning(
                        "job %s is no longer ours: its answer is dropped",
                        answer.claim.named,
                        extra=answer.claim.for_log,
                    )
                elif outcome == claims.HAS_DEPENDENTS:
                    self._outcomes.succeed(answer)
                    self._done += 1
        except RedisError as error:  # these jobs will be put back
            log.warning(
                "worker %s: %d answers can't be written: %s", self._worker, len(answers), error
            )
        except Exception:  # the worker must live on
            log.exception("worker %s: %d answers can't be written", self._worker, len(answers))
        finally:
            self._intake.release(answer.claim for answer in answers)

    def fail(self, claim: Claim, raised: Raised) -> None:
        """Let RQ write the failure, and its retry if attempts are left. Logs RedisError."""
        self._failed += 1
        # Without the error's own words, which may repeat the input.
        words = (self._worker, claim.named, raised[0].__name__)
        log.warning("worker %s: job %s: %s", *words, extra=claim.for_log)
        try:
            self._outcomes.fail(claim, raised)
        except NoSuchJobError:
            log.info("job %s was deleted while it ran", claim.named, extra=claim.for_log)
        except RedisError:
            log.exception("worker %s: the failure of a job can't be written", self._worker)
        finally:
            self._intake.release([claim])

"""RQ's worker, which no error of Redis ends, and which asks Redis for less."""

import logging
import time
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError
from rq import SimpleWorker
from rq.utils import now as rq_now

from workers.broker.clock import clock
from workers.broker.wire import JSONSerializer

log = logging.getLogger(__name__)

HEARTBEAT_EVERY = 10.0  # seconds; RQ forgets a worker after worker_ttl + 60
SUSPENSION_EVERY = 1.0  # seconds until `rqsuspend` is seen
REDIS_PATIENCE = 5  # seconds for an answer
CLOCKS_AGREE = 10.0  # seconds between this machine's clock and the server's


class SteadyWorker(SimpleWorker):
    """RQ ends a worker on any error outside a job; and for every job it asks Redis what is enough
    now and then."""

    log_result_lifespan = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # django-rq's commands pass pickle here, whatever the queue's settings say.
        kwargs["serializer"] = JSONSerializer
        super().__init__(*args, **kwargs)
        self._beaten = self._looked = -float("inf")

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        if timeout is None and pipeline is None:
            if time.monotonic() - self._beaten < HEARTBEAT_EVERY:
                return
            self._beaten = time.monotonic()
        with suppress(RedisError):  # RQ ends the worker on any error here
            super().heartbeat(timeout, pipeline)

    def check_for_suspension(self, burst: bool) -> None:
        if time.monotonic() - self._looked >= SUSPENSION_EVERY:
            with suppress(RedisError):
                super().check_for_suspension(burst)
            self._looked = time.monotonic()

    def run_maintenance_tasks(self) -> None:
        try:
            super().run_maintenance_tasks()
        except Exception:  # RQ ends the worker on any error here; a job of somebody else's may do
            log.exception("worker %s: RQ's maintenance failed", self.name)
            self._cleaned()

    def _cleaned(self) -> None:
        self.last_cleaned_at = rq_now()  # type: ignore[assignment]  # RQ declares None

    def clean_registries(self) -> None:
        """RQ goes by this machine's clock: if it is wrong, jobs in hand count as abandoned."""
        wrong = time.time() - clock.now()
        if abs(wrong) < CLOCKS_AGREE:
            super().clean_registries()
        else:
            log.error("worker %s: this machine's clock is wrong by %.0f s", self.name, wrong)
            self._cleaned()

    @property
    def connection_timeout(self) -> int:
        """Seconds that Redis may take for an answer; RQ would wait for minutes."""
        return REDIS_PATIENCE

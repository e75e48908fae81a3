"""What this worker has claimed: it takes turns between queues, waits, and puts strays back."""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import chain
from typing import cast

from django.conf import settings
from redis import Redis
from redis.exceptions import RedisError
from rq.defaults import RQ_KEY_PREFIX

from workers.broker import claims
from workers.broker.claims import Claim, LeaseOver
from workers.broker.connection import queue
from workers.broker.doorman import Doorman
from workers.broker.names import is_version

log = logging.getLogger(__name__)

WAIT = 1  # seconds for a job, and so how long a stop may go unnoticed


class Intake:
    """Owns the executions in hand.

    `queues` gives the names of the queues that the worker takes jobs from at the moment.
    """

    def __init__(self, redis: Redis, worker: str, queues: Callable[[], Sequence[str]]) -> None:
        self._redis = redis
        self._worker = worker
        self._queues = queues
        self._doorman = Doorman(redis)
        self._in_hand: dict[str, int] = {}  # "job id:execution id" to how many inputs the job has
        self._strays: set[str] = set()  # in Redis, but not in hand, at the last look
        self._first = 0  # the queue that is looked into first
        self._rounds = 0
        self._stopped = threading.Event()

    @property
    def rounds(self) -> int:
        """How often the worker has come back for more with nothing in hand."""
        return self._rounds

    def begin_round(self) -> None:
        """The worker comes back for more with nothing in hand."""
        self._rounds += 1

    def stop(self) -> None:
        """Wake up: from now on nobody waits here."""
        self._stopped.set()

    def pause(self, seconds: float) -> None:
        """Do nothing, unless the worker is told to stop."""
        self._stopped.wait(seconds)

    def claim(self, limit: int, suspects: bool = True) -> list[Claim]:
        """Jobs with up to `limit` inputs; see `claims.claim`. Raises LeaseOver and RedisError."""
        window = self._claim(limit, suspects)
        left = limit - sum(claim.inputs for claim in window)
        alone = any(claim.suspect for claim in window)
        if window and settings.VELO_BATCH_WAIT_MS and left > 0 and not alone:
            self.pause(settings.VELO_BATCH_WAIT_MS / 1000)
            with suppress(RedisError, LeaseOver):  # what is claimed is answered all the same
                window += self._claim(left, suspects=False)
        return window

    def _claim(self, limit: int, suspects: bool) -> list[Claim]:
        queues = [queue(name) for name in self._in_turn()]
        if not queues:
            return []
        held = list(self._in_hand.values())  # a copy: answers are written meanwhile
        extra = sum(held) - len(held)
        found = claims.claim(self._redis, self._worker, queues, limit, suspects, extra=extra)
        self._in_hand.update((claim.execution_key, claim.inputs) for claim in found)
        return found

    def _in_turn(self) -> list[str]:
        """Each version's queue is the first in turn, so that a busy version doesn't starve the
        others; among RQ's own queues the first always comes first."""
        names = self._queues()
        plain = [name for name in names if not is_version(name)]
        parts = [[name] for name in names if is_version(name)]
        parts += [plain] if plain else []
        if not parts:
            return []
        self._first = (self._first + 1) % len(parts)
        return list(chain(*parts[self._first :], *parts[: self._first]))

    def wait(self) -> None:
        """Until a job waits for a model, or for WAIT seconds, which RQ's own jobs may wait.

        Raises RedisError.
        """
        names = self._queues()
        keys = [queue(name).key for name in names if is_version(name)]
        keys = keys or [queue(name).key for name in names]
        if keys:
            self._doorman.wait(keys, WAIT)
        else:
            self.pause(WAIT)

    def put_back(self, unbegun: Iterable[Claim]) -> None:
        """To the front of their queues, as they were. Raises RedisError."""
        executions = [claim.execution_key for claim in unbegun]
        claims.put_back(self._redis, self._worker, executions)
        self._forget(executions)

    def release(self, done: Iterable[Claim]) -> None:
        """They are answered, failed, dropped, or somebody else's."""
        self._forget(claim.execution_key for claim in done)

    def _forget(self, executions: Iterable[str]) -> None:
        for execution in executions:
            self._in_hand.pop(execution, None)

    def release_all(self) -> None:
        """Nothing is in hand any more: what isn't answered becomes a stray."""
        self._in_hand.clear()

    def put_back_strays(self) -> None:
        """Jobs that Redis takes for this worker's, and that aren't in hand, go back to their queue:
        the reply to a claim was lost, or an answer couldn't be written. Raises RedisError."""
        index = f"{RQ_KEY_PREFIX}:worker:{self._worker}:executions"
        found = cast(set[bytes], self._redis.smembers(index))
        strays = {execution.decode() for execution in found} - self._in_hand.keys()
        # A job that was a stray at the last look too isn't on its way to us.
        if lost := sorted(strays & self._strays):
            put = claims.put_back(self._redis, self._worker, lost)
            log.warning("worker %s: %d jobs were in nobody's hand: put back", self._worker, put)
        self._strays = strays

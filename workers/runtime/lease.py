"""A worker's lease: that it is alive, what it serves, whether it may judge others."""

import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from redis.exceptions import RedisError
from rq.registry import ScheduledJobRegistry, StartedJobRegistry

from workers.broker import leases
from workers.broker.connection import connection, queue, script
from workers.broker.leases import Registration, Renewal, Steadiness
from workers.broker.names import leases_key

log = logging.getLogger(__name__)


class Registry(Protocol):
    """RQ's own list of workers."""

    def register_again(self) -> None:
        """After Redis has lost this worker."""

    def register_queues(self) -> None:
        """This worker's queues have changed."""

    def unregister_queue(self, name: str) -> None:
        """This worker has left a queue."""


class Lease:
    """Owns what is registered. Each change of the queues is registered under one lock, so that a
    renewal never registers what has just been left."""

    def __init__(self, worker: str, plain: Sequence[str], registry: Registry) -> None:
        """`plain`: RQ's own queues, which it always serves."""
        self._worker = worker
        self._plain = tuple(plain)
        self._registry = registry
        self._lock = threading.RLock()
        self._versions: tuple[str, ...] = ()
        self._declared: str | None = None
        self._problems: Mapping[str, str] = {}
        self._registration: Registration | None = None
        self._steadiness = Steadiness()

    @property
    def versions(self) -> tuple[str, ...]:
        """Labels of the versions whose queues this worker takes jobs from."""
        return self._versions

    @property
    def queues(self) -> tuple[str, ...]:
        """Names of all queues that this worker takes jobs from."""
        return tuple(dict.fromkeys([*self._versions, *self._plain]))

    @property
    def is_held(self) -> bool:
        """Whether this worker is registered, and so may claim jobs."""
        return self._registration is not None

    def may_judge(self) -> bool:
        """Whether the silence of others means that they are dead."""
        return self._steadiness.may_judge()

    def declare(self, label: str | None) -> None:
        """The version that this worker was started with, where that is reason enough to send
        requests to it."""
        self._declared = label

    def explain(self, problems: Mapping[str, str]) -> None:
        """Why it doesn't serve the versions that it is to hold, by label."""
        self._problems = problems

    def serve(self, label: str) -> None:
        """Take jobs of this version from now on."""
        with self._lock:
            self._versions = tuple(dict.fromkeys([*self._versions, label]))
            if self.is_held:
                self.pulse()

    def leave(self, label: str, away: bool) -> bool:
        """Take no more jobs of this version; False, and nothing has changed, if they would be
        nobody's. `away`: only while others serve it."""
        origin = queue(label)
        with self._lock:
            left = script("leave")(
                keys=[
                    origin.key,
                    leases_key(label),
                    StartedJobRegistry(queue=origin).key,
                    ScheduledJobRegistry(queue=origin).key,
                ],
                args=[self._worker, int(away)],
                client=connection(),
            )
            if not left:
                return False
            self._versions = tuple(one for one in self._versions if one != label)
            self.pulse()
        self._registry.unregister_queue(label)
        return True

    def pulse(self) -> None:
        """Renew the lease, also for queues that are new. Where it is gone, register again: the jobs
        in hand may be somebody else's by now, and then our answers to them don't count.

        Raises RedisError.
        """
        with self._lock:
            known, now = self._registration, self._as_of_now()
            renewal = Renewal.GONE
            try:
                if known:  # what it has left isn't its own any more
                    renewal = known.renew(without=set(known.queues) - set(now.queues))
                else:
                    renewal = now.renew(create=True)
                if known and renewal is Renewal.GONE:
                    self._registry.register_again()
                    log.warning(
                        "worker %s: its lease was gone; it is registered again", self._worker
                    )
                if known and (renewal is Renewal.GONE or now != known):
                    now.renew(create=True)
                    self._registry.register_queues()
            finally:
                self._steadiness.note(renewal if known else Renewal.GONE)
            self._registration = now

    def _as_of_now(self) -> Registration:
        declared = self._declared if self._declared in self._versions else None
        return leases.of_this_process(self._worker, self.queues, declared, self._problems)

    def give_back(self) -> None:
        """This worker leaves nothing behind; without Redis, the lease ends by itself."""
        if self._registration:
            with suppress(RedisError):
                self._registration.give_back()

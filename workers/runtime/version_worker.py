"""A worker that holds several versions, and changes them while it serves: it follows the plan."""

import logging
import threading
import traceback
from collections.abc import Sequence
from typing import Any

from django.db import connections
from rq import worker_registration
from rq.registry import (
    FailedJobRegistry,
    FinishedJobRegistry,
    ScheduledJobRegistry,
    StartedJobRegistry,
)

from workers import predictors
from workers.broker import leases
from workers.broker.connection import connection, queue, script
from workers.broker.leases import Registration, Renewal
from workers.broker.names import is_version, leases_key
from workers.catalog import plan
from workers.catalog.plan import Plan
from workers.catalog.specs import spec_of
from workers.metrics.latency import Recorder
from workers.predictors import ModelError, Spec
from workers.runtime import holdings
from workers.runtime.batch_worker import BatchWorker
from workers.runtime.holdings import Held, State
from workers.runtime.runner import Runner

log = logging.getLogger(__name__)

TURN = "velo:turn:"  # and the model's name: who may put a version away to have memory for the next
TURN_KEPT = 30  # seconds after the last sign of life of who has it


class VersionWorker(BatchWorker):
    """Has a queue for each version in its memory. It holds those that its command line names or,
    where it names none, follows the plan. Other queues that are named there are RQ's own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.told = [each.name for each in self.queues]  # on its command line
        self._named = [name for name in self.told if is_version(name)]
        self._plain = [name for name in self.told if not is_version(name)]
        self.follows = not self._named
        self.recorder = Recorder()
        self.held: dict[str, Held] = {}
        self.declared: Spec | None = None  # what it was started with
        self.plan: Plan | None = None  # as it was last seen
        self.registration: Registration | None = None  # as it stands in Redis
        self.steadiness = leases.Steadiness()
        self._lease_lock = threading.RLock()
        self._left: dict[str, int] = {}  # the turn of the main loop in which it left a queue
        self._room: tuple[str, str] | None = None  # what is put away for a while, and for what

    # --- what it holds ------------------------------------------------------------------------

    @property
    def runners(self) -> dict[str, Runner]:
        """By label, those that are loaded."""
        return {label: one.runner for label, one in self.held.copy().items() if one.runner}

    def runner_for(self, name: str) -> Runner | None:
        """Who answers jobs of this queue; None if it isn't held any more."""
        if is_version(name):
            found = self.held.get(name)
            return found.runner if found else None
        return next(iter(self.runners.values()), None)  # a job that names no version

    @property
    def serves(self) -> list[str]:
        """Labels of the versions whose queues it takes jobs from."""
        return [each.name for each in self.queues if is_version(each.name)]

    def load_first(self) -> None:
        """Before it takes jobs: everything that the plan wants and its memory has room for.

        Raises ModelError if it could load none of it.
        """
        self._set_queues([])
        if self.follows:
            self.declared = predictors.declared()
        self.plan = self._plan_at_start()
        errors = []
        for label in self._wanted():
            if label not in self.held and holdings.fits(self.held, self._memory(label)):
                try:
                    self._load(label)
                except ModelError as error:
                    if self.declared and label == self.declared.label:
                        raise
                    errors.append(error)
        if errors and not self.runners:
            raise errors[0]

    def _plan_at_start(self) -> Plan | None:
        """The database's, as yet unpublished perhaps; without it, Redis's."""
        try:
            return plan.decided()
        except Exception as error:  # noqa: BLE001 - whatever the database says, Redis may know
            log.warning("worker %s: the database is away: %s", self.name, error)
            return plan.published()
        finally:
            connections.close_all()

    def _wanted(self) -> list[str]:
        return holdings.wanted(self.plan, self.declared, self._named, self.follows)

    def _memory(self, label: str) -> int | None:
        """Bytes that it takes, as far as that has been measured."""
        version = self.plan.version(label) if self.plan else None
        return version.memory if version else None

    def _spec(self, label: str) -> Spec:
        if self.declared and label == self.declared.label:
            return self.declared
        version = self.plan.version(label) if self.plan else None
        if version is None:
            known = [
                one.label
                for model in (self.plan.models.values() if self.plan else ())
                for one in model.versions.values()
            ]
            raise ModelError(
                f"There is no model version {label!r}. Known are: {', '.join(known) or 'none'}; "
                "`manage.py velo_models add` registers one."
            )
        assert self.plan
        return spec_of(version, self.plan.models[version.model].kind)

    def _load(self, label: str) -> None:
        """Read it, warm it up, and take its requests. Raises ModelError, and keeps why."""
        self.held[label] = one = Held(label, self._memory(label))
        log.info("worker %s: loading %s", self.name, label)
        try:
            spec = self._spec(label)
            one.runner, measured = holdings.load(spec, self.threads, self.name, self.recorder)
            one.memory = one.memory or measured
        except Exception as error:
            one.change(State.FAILED, f"Worker {self.name}: {traceback.format_exc()}")
            log.error("worker %s: %s can't be loaded: %s", self.name, label, error)
            raise
        self._serve(one)

    def _serve(self, one: Held) -> None:
        """Take its requests from now on."""
        with self._lease_lock:
            one.change(State.READY)
            self._left.pop(one.label, None)
            self._set_queues([*self.serves, one.label])
            if self.registration:
                self.pulse()

    # --- following the plan -------------------------------------------------------------------

    def follow_plan(self) -> None:
        """Again and again, in a thread of its own: unload what isn't wanted, and load what is."""
        if not self.registration:
            return
        found = plan.published()
        if found is None:
            return  # Redis has lost it, and whoever reaches the database publishes it again
        self.plan = found
        wanted = self._wanted()
        for label in [label for label in self.held if label not in wanted]:
            self._let_go(label)
        if self._room and self._room[1] not in wanted:
            self._room = None
        for label in wanted:
            one = self.held.get(label)
            if one is None or one.state is State.WAITING:
                self._take_up(label)
            elif one.state is State.LEAVING and not (self._room and self._room[0] == label):
                self._serve(one)  # it is wanted again

    def _take_up(self, label: str) -> None:
        memory = self._memory(label)
        if not holdings.fits(self.held, memory) and not self._make_room(label, memory):
            if label not in self.held:
                self.held[label] = Held(label, memory, State.WAITING)
            return
        try:
            self._load(label)
        except Exception:  # noqa: BLE001 - it is logged, and said in the worker's row
            holdings.free(self.held[label])
        finally:
            self._end_turn(label)

    def _let_go(self, label: str, away: bool = False) -> bool:
        """Returns whether it is gone. `away`: only while others serve it."""
        if label in self.serves and not self._leave(label, away):
            return False
        if label in self._left and self.turns <= self._left[label]:
            return False  # a batch of its own may be in hand
        one = self.held.pop(label)
        self._left.pop(label, None)
        if one.runner:
            log.info("worker %s: %s is no longer wanted: unloaded", self.name, label)
            holdings.free(one)
        return True

    def _leave(self, label: str, away: bool) -> bool:
        """Take no more of its jobs; False if nobody else would."""
        origin = queue(label)
        with self._lease_lock:
            left = script("leave")(
                keys=[
                    origin.key,
                    leases_key(label),
                    StartedJobRegistry(queue=origin).key,
                    ScheduledJobRegistry(queue=origin).key,
                ],
                args=[self.name, int(away)],
                client=connection(),
            )
            if not left:
                return False
            self._left[label] = self.turns
            self.held[label].change(State.LEAVING)
            self._set_queues([name for name in self.serves if name != label])
            self.pulse()
        connection().srem(worker_registration.WORKERS_BY_QUEUE_KEY % label, self.key)
        return True

    def _make_room(self, label: str, memory: int | None) -> bool:
        """Where there is no memory for two versions of a model: put the one that serves away, if
        others serve it meanwhile and no other worker is doing the same."""
        name, _, version = label.rpartition("@")
        model = self.plan.models.get(name) if self.plan else None
        active = f"{name}@{model.active}" if model else ""
        if not model or version != model.target or active not in self.held:
            return False
        others = {key: one for key, one in self.held.items() if key != active}
        if not holdings.fits(others, memory) or not self._has_turn(name):
            return False
        self._room = active, label
        if not self._let_go(active, away=True):
            return False
        self._room = None
        return True

    def _has_turn(self, name: str) -> bool:
        key = f"{TURN}{name}"
        taken = connection().set(key, self.name, nx=True, ex=TURN_KEPT, get=True)
        if taken not in (None, self.name.encode()):
            return False
        connection().expire(key, TURN_KEPT)
        return True

    def _end_turn(self, label: str) -> None:
        key = f"{TURN}{label.rpartition('@')[0]}"
        if connection().get(key) == self.name.encode():
            connection().delete(key)

    # --- its queues, and its lease ------------------------------------------------------------

    def _set_queues(self, labels: Sequence[str]) -> None:
        """From now on it takes jobs from these versions' queues, beside RQ's own."""
        self.queues = [queue(name) for name in dict.fromkeys([*labels, *self._plain])]
        self._ordered_queues = self.queues.copy()

    def _of_now(self) -> Registration:
        declared = self.declared
        declares = declared and declared.label in self.serves
        if declared and declares and holdings.serves_declared(self.plan, declared):
            return leases.of_this_process(self.name, self.queue_names(), declared.label)
        return leases.of_this_process(self.name, self.queue_names())

    def pulse(self) -> None:
        """Renew the lease, also for queues that are new; where it is gone, begin anew: the jobs in
        hand may be somebody else's by now, and if so our answers to them don't count."""
        with self._lease_lock:
            known, now = self.registration, self._of_now()
            renewal = Renewal.GONE
            try:
                if known:  # what it has left isn't its own any more
                    renewal = known.renew(but=set(known.queues) - set(now.queues))
                else:
                    renewal = now.renew(anew=True)
                if known and renewal is Renewal.GONE:
                    self.connection.delete(self.key)
                    self.register_birth()
                    log.warning("worker %s: its lease was gone; it is registered again", self.name)
                if known and (renewal is Renewal.GONE or now != known):
                    now.renew(anew=True)
                    worker_registration.register(self)
                    self.connection.hset(self.key, "queues", ",".join(self.queue_names()))
            finally:
                self.steadiness.note(renewal if known else Renewal.GONE)
            self.registration = now

    def clean_registries(self) -> None:
        """Also of versions that nobody serves any more: they have answers to forget."""
        super().clean_registries()
        models = self.plan.models.values() if self.plan else ()
        for label in (one.label for model in models for one in model.versions.values()):
            for registry in (FinishedJobRegistry, FailedJobRegistry):
                registry(queue=queue(label)).cleanup()

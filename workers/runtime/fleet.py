"""The versions in a worker's memory: loaded, dropped, given room, as the plan says."""

import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from django.db import connections

from workers import predictors
from workers.broker.connection import connection
from workers.broker.names import is_version
from workers.catalog import plan
from workers.catalog.plan import Plan
from workers.catalog.specs import spec_of
from workers.metrics.latency import Recorder
from workers.predictors import ModelError, Spec
from workers.runtime import holdings
from workers.runtime.holdings import Held, State
from workers.runtime.lease import Lease
from workers.runtime.runner import Runner
from workers.runtime.threads import Threads
from workers.values.version_id import VersionId

log = logging.getLogger(__name__)

TURN = "velo:turn:"  # and the model's name: the worker that may put a version away for the next
TURN_KEPT = 30  # seconds after the last sign of life of the worker that has it


class Fleet:
    """Owns the runners. It holds the versions that the command line names or, where that names
    none, follows the plan.

    `rounds` counts how often the worker has had nothing in hand: a version is unloaded when its
    last batch is surely over.
    """

    def __init__(
        self,
        worker: str,
        named: Sequence[str],
        *,
        lease: Lease,
        rounds: Callable[[], int],
        recorder: Recorder,
        threads: Threads,
    ) -> None:
        """`named`: labels on the command line."""
        self._worker = worker
        self._named = list(named)
        self._lease = lease
        self._rounds = rounds
        self._recorder = recorder
        self._threads = threads
        self._held: dict[str, Held] = {}
        self._declared: Spec | None = None
        self._declared_error = ""
        self._plan: Plan | None = None  # as it was last seen
        self._left: dict[str, int] = {}  # in which round a queue was left
        self._room: tuple[str, str] | None = None  # what is put away for a while, and for what

    # --- snapshots, for other threads ---------------------------------------------------------

    @property
    def follows(self) -> bool:
        """Whether it holds what the plan says."""
        return not self._named

    @property
    def held(self) -> dict[str, Held]:
        """By label, each as it was at one moment."""
        return self._held.copy()

    @property
    def declared(self) -> Spec | None:
        """What the worker was started with."""
        return self._declared

    @property
    def declared_error(self) -> str:
        """Why what the worker was started with can't be served; empty if it can."""
        return self._declared_error

    @property
    def plan(self) -> Plan | None:
        """As last read; None before the first."""
        return self._plan

    def runner_for(self, name: str) -> Runner | None:
        """What answers the jobs of this queue; None if it isn't held any more."""
        if is_version(name):
            found = self._held.get(name)
            return found.runner if found else None
        # A job that names no version.
        return next((one.runner for one in self.held.values() if one.runner), None)

    # --- loading ------------------------------------------------------------------------------

    def load_first(self) -> None:
        """Before it takes jobs: everything that the plan wants and its memory has room for.

        Raises ModelError if it could load none of it, or not what the command line names.
        """
        if self.follows:
            self._read_environment()
        self._see(self._plan_at_start())
        errors = []
        for label in self._wanted():
            try:
                self._load_if_it_fits(label)
            except ModelError as error:
                if label in self._named or (self._declared and label == self._declared.label):
                    raise
                errors.append(error)
        if errors and not self._runners():
            raise errors[0]
        if self._declared_error and not self._held:
            raise ModelError(self._declared_error)
        self._explain()

    def _read_environment(self) -> None:
        try:
            self._declared = predictors.declared()
        except ModelError as error:  # the plan may have something to serve all the same
            self._declared_error = str(error)
            log.error("worker %s: %s", self._worker, error)

    def _plan_at_start(self) -> Plan | None:
        """Redis's; or the database's, if Redis has none yet."""
        found = plan.published()
        if found:
            return found
        try:
            return plan.decided()
        except Exception as error:  # noqa: BLE001 - whatever the database says, it can do without
            log.warning("worker %s: the database is away: %s", self._worker, error)
            return None
        finally:
            connections.close_all()

    def _load_if_it_fits(self, label: str) -> None:
        """Raises ModelError."""
        memory = self._memory(label)
        if holdings.fits(self._held, memory):
            self._load(label)
            return
        reason = holdings.no_room(label, memory, self._held)
        if label in self._named:
            raise ModelError(reason)
        self._held[label] = Held(label, memory, State.WAITING, reason)

    def _load(self, label: str) -> None:
        """Read it, warm it up, and take its requests. Raises ModelError, and keeps why."""
        self._held[label] = one = Held(label, self._memory(label))
        log.info("worker %s: loading %s", self._worker, label)
        try:
            spec = self._spec(label)
            runner, measured = holdings.load(
                spec, self._threads.count, self._worker, self._recorder
            )
        except Exception as error:
            why = f"Worker {self._worker}: {traceback.format_exc()}"
            self._held[label] = one.became(State.FAILED, why)
            log.error("worker %s: %s can't be loaded: %s", self._worker, label, error)
            raise
        self._serve(replace(one, runner=runner, memory=one.memory or measured))

    def _spec(self, label: str) -> Spec:
        if self._declared and label == self._declared.label:
            return self._declared
        version = self._plan.version(label) if self._plan else None
        if version is None:
            known = labels_of(self._plan)
            raise ModelError(
                f"There is no model version {label!r}. Known are: {', '.join(known) or 'none'}; "
                "`manage.py velo_models add` registers one."
            )
        assert self._plan
        return spec_of(version, self._plan.models[version.model].kind)

    def _serve(self, one: Held) -> None:
        """Take its requests from now on."""
        self._held[one.label] = one.became(State.READY)
        self._left.pop(one.label, None)
        self._declare()
        self._lease.serve(one.label)

    # --- following the plan -------------------------------------------------------------------

    def follow_plan(self) -> None:
        """Called again and again, by one thread: unload what isn't wanted, and load what is.

        Raises RedisError.
        """
        if not self._lease.is_held:
            return
        found = plan.published()
        if found is None:
            return  # Redis has lost it; a process that reaches the database publishes it again
        self._see(found)
        wanted = self._wanted()
        for label in [label for label in self._held if label not in wanted]:
            self._let_go(label)
        if self._room and self._room[1] not in wanted:
            self._room = None
        for label in wanted:
            one = self._held.get(label)
            if one is None or one.state is State.WAITING:
                self._take_up(label)
            elif one.state is State.LEAVING and not (self._room and self._room[0] == label):
                self._serve(one)  # it is wanted again
        self._explain()

    def _see(self, found: Plan | None) -> None:
        self._plan = found
        self._declare()

    def _declare(self) -> None:
        declared = self._declared
        serves = declared and holdings.serves_declared(self._plan, declared)
        self._lease.declare(declared.label if declared and serves else None)

    def _explain(self) -> None:
        """Let the others know why requests for these versions can't be answered here."""
        found = {label: one.error for label, one in self._held.items() if one.error}
        if self._declared_error:
            found[""] = self._declared_error
        self._lease.explain(found)

    def _wanted(self) -> list[str]:
        return holdings.wanted(self._plan, self._declared, self._named, self.follows)

    def _runners(self) -> list[Runner]:
        return [one.runner for one in self._held.values() if one.runner]

    def _memory(self, label: str) -> int | None:
        """Bytes that it takes, as far as that has been measured."""
        version = self._plan.version(label) if self._plan else None
        return version.memory if version else None

    def _take_up(self, label: str) -> None:
        memory = self._memory(label)
        if not holdings.fits(self._held, memory) and not self._make_room(label, memory):
            if label not in self._held:
                reason = holdings.no_room(label, memory, self._held)
                self._held[label] = Held(label, memory, State.WAITING, reason)
            return
        try:
            self._load(label)
        except Exception:  # noqa: BLE001 - it is logged, and said in the worker's row
            self._held[label] = holdings.free(self._held[label])
        finally:
            self._end_turn(label)

    def _let_go(self, label: str, away: bool = False) -> bool:
        """Returns whether it is gone. `away`: only while others serve it."""
        if label in self._lease.versions:
            if not self._lease.leave(label, away):
                return False
            self._left[label] = self._rounds()
            self._held[label] = self._held[label].became(State.LEAVING)
        if label in self._left and self._rounds() <= self._left[label]:
            return False  # a batch of its own may be in hand
        one = self._held.pop(label)
        self._left.pop(label, None)
        if one.runner:
            log.info("worker %s: %s is no longer wanted: unloaded", self._worker, label)
            holdings.free(one)
        return True

    def _make_room(self, label: str, memory: int | None) -> bool:
        """Where there is no memory for two versions of a model: unload the active version, if
        other workers serve it meanwhile and no other worker is doing the same."""
        wanted = VersionId.parse(label)
        model = self._plan.models.get(wanted.model) if self._plan else None
        if not model or not model.active or wanted.version != model.target:
            return False
        active = VersionId(wanted.model, model.active).label
        others = {key: one for key, one in self._held.items() if key != active}
        if active not in self._held or not holdings.fits(others, memory):
            return False
        if not self._has_turn(wanted.model):
            return False
        self._room = active, label
        if not self._let_go(active, away=True):
            return False
        self._room = None
        return True

    def _has_turn(self, name: str) -> bool:
        key = f"{TURN}{name}"
        taken = connection().set(key, self._worker, nx=True, ex=TURN_KEPT, get=True)
        if taken not in (None, self._worker.encode()):
            return False
        connection().expire(key, TURN_KEPT)
        return True

    def _end_turn(self, label: str) -> None:
        key = f"{TURN}{VersionId.parse(label).model}"
        if connection().get(key) == self._worker.encode():
            connection().delete(key)


def labels_of(plan: Plan | None) -> Mapping[str, None]:
    """Of all versions that the plan knows, in its order."""
    models = plan.models.values() if plan else ()
    return {one.label: None for model in models for one in model.versions.values()}

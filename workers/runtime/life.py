"""A worker's life: it loads, registers, works while its threads look after the rest, and leaves."""

import logging
import multiprocessing
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from redis.exceptions import RedisError

from workers.broker import leases, rescue
from workers.broker.connection import connection, queue
from workers.broker.enqueue import promote_due
from workers.broker.names import QUEUE
from workers.broker.roster import Roster
from workers.catalog import checking, plan
from workers.host import machine
from workers.host.ticker import Ticker
from workers.host.watchdog import Watchdog
from workers.metrics.latency import Recorder
from workers.models import Worker
from workers.predictors import ModelError
from workers.runtime.fleet import Fleet
from workers.runtime.housekeeping import LEFT_WITHIN, Housekeeper
from workers.runtime.intake import Intake
from workers.runtime.lease import Lease
from workers.runtime.row import Row

log = logging.getLogger(__name__)

BEAT = 1.0  # seconds between two looks whether there is something to report
DATABASE_PATIENCE = 3.0  # seconds that the start of a worker waits until its version is registered
POLL = 0.05  # seconds between two looks whether it is
LAST_BEAT = 1.0  # seconds that each thread's last beat may take, so that none delays the end
CHECKS_ASKED = "velo:checks-asked:"  # and a place: one worker there has just asked for checks
LEASE_BEAT = 0.5  # seconds between two renewals of the lease
LONGEST_PAUSE = 30.0  # seconds before a pool starts a worker again that can't start


class Life:
    """Joins the parts of a worker, from its start to its end."""

    def __init__(
        self,
        worker: str,
        told: Sequence[str],
        *,
        intake: Intake,
        lease: Lease,
        fleet: Fleet,
        row: Row,
        recorder: Recorder,
        watchdog: Watchdog,
    ) -> None:
        """`told`: the names of queues on the command line."""
        self._worker = worker
        self._told = told
        self._intake = intake
        self._lease = lease
        self._fleet = fleet
        self._row = row
        self._recorder = recorder
        self._watchdog = watchdog
        self._roster = Roster()
        self._housekeeper = Housekeeper()
        self._housekeeping = Ticker("worker housekeeping", BEAT, self._housekeeper.tick)
        self._is_registered = threading.Event()
        self._left_nothing = False

    def registered(self) -> None:
        """RQ knows this worker now: it may have a lease."""
        self._is_registered.set()

    def left_nothing(self) -> None:
        """No job of this worker's is left in Redis."""
        self._left_nothing = True

    def live(self, loop: Callable[[], bool]) -> bool:
        """Load the versions, then run RQ's loop until it ends; returns what it returns.

        Raises SystemExit where the worker can't start.
        """
        row = Ticker("worker row", BEAT, self._report)
        tickers = [
            Ticker("worker lease", LEASE_BEAT, self._renew_lease),
            Ticker("worker rescue", LEASE_BEAT, self._rescue),
            Ticker("worker versions", LEASE_BEAT, self._fleet.follow_plan),
            Ticker("worker watchdog", LEASE_BEAT, self._watchdog.look),
        ]
        end = Worker.State.STOPPED, ""
        try:
            row.start()
            self._housekeeping.start()
            rescue.rescue(judge_leases=False)
            self._begin()
            rescue.rescue_namesake(self._worker)
            for ticker in tickers:
                ticker.start()
            return loop()
        except ModelError as error:
            end = Worker.State.FAILED, str(error)
            self._pause_before_the_next(error)
            raise SystemExit(f"Worker {self._worker} can't start: {error}") from error
        except RedisError as error:
            end = Worker.State.STOPPED, f"Redis: {error}"
            raise SystemExit(f"Worker {self._worker} lost Redis: {error}") from error
        finally:
            for ticker in reversed(tickers):
                ticker.stop(within=LAST_BEAT)
            self._watchdog.rest()
            if self._left_nothing:  # otherwise others find that we are gone
                self._lease.give_back()
            row.stop(last=partial(self._report_end, *end), within=LAST_BEAT)
            leave = partial(self._housekeeper.leave, self._worker)
            if not self._housekeeping.stop(last=leave, within=LEFT_WITHIN):
                log.warning(
                    "worker %s: the database is silent: its end isn't written yet", self._worker
                )
            log.info("worker %s: %s", self._worker, end[0].value)

    def _begin(self) -> None:
        """Load what it is to hold, and let the others know of it. Raises ModelError."""
        self._fleet.load_first()
        self._row.report()
        self._wait_for_the_plan()
        leases.forget_failed_starts(self._told)
        serves = ", ".join(self._lease.versions)
        if serves:
            log.info("worker %s: ready with %s", self._worker, serves)
        else:
            reasons = [one.error for one in self._fleet.held.values() if one.error]
            log.warning("worker %s: it holds no version: %s", self._worker, " ".join(reasons))

    def _wait_for_the_plan(self) -> None:
        """Until the elected worker has registered the version that this worker was started with, so
        that requests find their way. If that takes long, its database is away: web processes learn
        of this version by its lease."""
        spec = self._fleet.declared
        if not spec:
            return
        self._housekeeping.hurry()  # if it is this worker that is elected
        give_up = time.monotonic() + DATABASE_PATIENCE
        while time.monotonic() < give_up:
            known = plan.published()
            if known and known.version(spec.label):
                return
            time.sleep(POLL)
        log.warning("worker %s: %s isn't registered yet", self._worker, spec.label)
        plan.publish_if_there_is_none(spec)

    def _pause_before_the_next(self, error: ModelError) -> None:
        """The supervisor waits longer from start to start; RQ's pool doesn't."""
        with suppress(RedisError):
            failures = leases.note_failed_start(self._told, str(error))
            if multiprocessing.parent_process():
                pause = min(2.0 ** (failures - 1), LONGEST_PAUSE)
                log.error("worker %s can't start: %s; ends in %g s", self._worker, error, pause)
                time.sleep(pause)

    # --- what the threads do ------------------------------------------------------------------

    def _renew_lease(self) -> None:
        if self._is_registered.is_set():
            self._lease.pulse()

    def _rescue(self) -> None:
        """Apart from the lease, which must not wait for any of this."""
        if not self._lease.is_held:
            return
        rescue.rescue(self._lease.may_judge(), self._roster)
        self._intake.put_back_strays()
        for name in self._lease.queues:
            promote_due(queue(name))

    def _report(self) -> None:
        self._row.report()
        self._recorder.flush()
        known = self._fleet.plan
        if known and known.has_checks() and self._takes_checks():
            checking.take_up()

    def _takes_checks(self) -> bool:
        """One worker at a place asks the database once a second. Raises RedisError."""
        return bool(
            self._is_registered.is_set()
            and QUEUE in self._lease.queues
            and connection().set(f"{CHECKS_ASKED}{machine.place()}", 1, nx=True, px=900)
        )

    def _report_end(self, state: Worker.State, note: str) -> None:
        self._recorder.flush()
        self._row.report_end(state, note)

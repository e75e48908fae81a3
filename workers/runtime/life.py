"""A worker's life: it loads, registers, works while its threads look after the rest, and leaves."""

import logging
import multiprocessing
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from django.db import connections
from redis.exceptions import RedisError

from workers.broker import leases, rescue
from workers.broker.connection import queue
from workers.broker.enqueue import promote_due
from workers.broker.names import QUEUE
from workers.broker.roster import Roster
from workers.catalog import checking, lifecycle, plan
from workers.host.ticker import Ticker
from workers.host.watchdog import Watchdog
from workers.metrics.latency import Recorder
from workers.models import Worker
from workers.predictors import ModelError
from workers.runtime.fleet import Fleet
from workers.runtime.housekeeping import Housekeeper
from workers.runtime.intake import Intake
from workers.runtime.lease import Lease
from workers.runtime.row import Row

log = logging.getLogger(__name__)

BEAT = 1.0  # seconds between two writes of the row
DATABASE_PATIENCE = 3.0  # seconds that the start of a worker may wait for it
LAST_BEAT = 1.0  # seconds that the last beat may take, so that a database can't delay the end
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
        row = Ticker("worker row", BEAT, self._tell_database)
        housekeeping = Ticker("worker housekeeping", BEAT, self._housekeeper.tick)
        tickers = [
            Ticker("worker lease", LEASE_BEAT, self._renew_lease),
            Ticker("worker rescue", LEASE_BEAT, self._rescue),
            Ticker("worker versions", LEASE_BEAT, self._fleet.follow_plan),
            Ticker("worker watchdog", LEASE_BEAT, self._watchdog.look),
        ]
        end = Worker.State.STOPPED, ""
        try:
            row.start()
            housekeeping.start()
            self._row.note_losses(rescue.rescue(judge_leases=False))
            self._begin()
            self._row.note_losses(rescue.rescue_namesake(self._worker))
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
            housekeeping.stop(last=self._housekeeper.resign, within=0)  # beside what follows
            if self._left_nothing:  # otherwise others find that we are gone
                self._lease.give_back()
            if not row.stop(last=partial(self._tell_end, *end), within=LAST_BEAT):
                log.warning(
                    "worker %s: the database is silent: its end isn't written", self._worker
                )
            log.info("worker %s: %s", self._worker, end[0].value)

    def _begin(self) -> None:
        """Load what it is to hold, and let the others know of it. Raises ModelError."""
        self._fleet.load_first()
        telling = threading.Thread(target=self._tell, name="worker begins", daemon=True)
        telling.start()
        telling.join(DATABASE_PATIENCE)  # if it is away, its row's thread tells it later
        if telling.is_alive():
            self._publish_own()
        leases.forget_failed_starts(self._told)
        serves = ", ".join(self._lease.versions)
        if serves:
            log.info("worker %s: ready with %s", self._worker, serves)
        else:
            reasons = [one.error for one in self._fleet.held.values() if one.error]
            log.warning("worker %s: it holds no version: %s", self._worker, " ".join(reasons))

    def _tell(self) -> None:
        """Let the database and the others know what it serves, so that requests find their way."""
        try:
            self._row.declare()
            plan.publish()
        except Exception as error:  # noqa: BLE001 - without a database it serves all the same
            log.warning("worker %s: the database is away: %s", self._worker, error)
            self._publish_own()
        finally:
            connections.close_all()

    def _publish_own(self) -> None:
        if self._fleet.declared:
            plan.publish_if_there_is_none(self._fleet.declared)

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
        self._row.note_losses(rescue.rescue(self._lease.may_judge(), self._roster))
        self._intake.put_back_strays()
        for name in self._lease.queues:
            promote_due(queue(name))

    def _tell_database(self) -> None:
        self._row.write()
        self._recorder.flush()
        known = self._fleet.plan
        if known and known.has_pending():
            lifecycle.conclude()  # it may have waited for nothing but this row
        if known and known.has_checks() and self._takes_checks():
            checking.take_up()

    def _takes_checks(self) -> bool:
        return self._is_registered.is_set() and QUEUE in self._lease.queues

    def _tell_end(self, state: Worker.State, note: str) -> None:
        self._row.write()
        self._recorder.flush()
        self._row.write_end(state, note)

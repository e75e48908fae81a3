"""A look at the others costs one round trip, however many they are, and misses nobody."""

import json
import subprocess
import threading
from typing import Any

import pytest

from tests.jobs import enqueue, lease_lasts, live, register, server_time
from tests.letters import Letters, work
from tests.waiting import eventually
from workers.broker import leases, roster
from workers.broker.connection import connection
from workers.broker.leases import REGISTRY, Registration
from workers.broker.names import EVERYBODY, QUEUE, leases_key
from workers.broker.rescue import GONE, RAN_OUT, rescue
from workers.broker.roster import Roster
from workers.host import machine
from workers.host.ticker import JITTER, Ticker

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db(transaction=True)]

ELSEWHERE = "elsewhere"


def registration(worker: str = "w", **fields: Any) -> Registration:
    known = json.loads(leases.of_this_process(worker, [QUEUE]).entry)
    return Registration(worker, json.dumps({**known, **fields}))


@pytest.fixture
def ended() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One for each time that this test has read the whole registry, as the routes of requests do
    all the time; never just because time has passed."""
    found: list[None] = []
    read = leases.registered

    def note() -> list[Registration]:
        if threading.current_thread() is threading.main_thread():
            found.append(None)
        return read()

    monkeypatch.setattr(leases, "registered", note)
    monkeypatch.setattr(roster, "FULL_LOOKS_A_SECOND", 1e-6)
    return found


@pytest.fixture
def known(reads: list[None]) -> Roster:
    """That has looked at two workers, here and elsewhere."""
    live("here")
    register(registration("there", place=ELSEWHERE))
    made = Roster()
    made.look(True)
    reads.clear()
    return made


def names(found: list[Registration]) -> list[str]:
    return sorted(one.worker for one in found)


# --- the whole registry is read only when it has changed ------------------------------------------


def test_what_has_not_changed_is_not_read_again(known: Roster, reads: list[None]) -> None:
    for _ in range(5):
        leases.of_this_process("here", [QUEUE]).renew()
        known.look(True)
    assert reads == []


def test_what_has_changed_here_is_read_once(known: Roster, reads: list[None]) -> None:
    leases.of_this_process("here", [QUEUE, "m@1"]).renew(create=True)
    for _ in range(3):
        known.look(True)
    assert len(reads) == 1


def test_what_has_changed_elsewhere_is_not_read(known: Roster, reads: list[None]) -> None:
    """Of a worker elsewhere nothing is to be seen but its lease."""
    register(registration("there", place=ELSEWHERE, declares="m@1"))
    known.look(True)
    assert reads == []


def test_where_workers_are_many_nothing_is_read_because_others_come_elsewhere(
    monkeypatch: pytest.MonkeyPatch, known: Roster, reads: list[None]
) -> None:
    monkeypatch.setattr(roster, "ASK_ALWAYS", 1)
    monkeypatch.setattr(roster, "LOOKS_A_SECOND", 1e9)
    known.look(True)
    reads.clear()
    register(registration("third", place=ELSEWHERE))
    known.look(True)
    assert reads == []
    register(registration("fourth"))
    known.look(True)
    assert len(reads) == 1


def counter() -> int:
    return int(connection().get(leases.changes_key(machine.place())) or 0)


def test_the_counter_moves_when_a_worker_comes_changes_goes_or_is_found_dead() -> None:
    seen = [counter()]
    mine = leases.of_this_process("w", [QUEUE])
    steps = [
        lambda: mine.renew(create=True),
        lambda: leases.of_this_process("w", [QUEUE, "m@1"]).renew(create=True),
        mine.give_back,
        lambda: registration("dead").renew(create=True),
        lambda: lease_lasts("dead", -0.1) or rescue(),
    ]
    for step in steps:
        step()
        seen.append(counter())
    assert seen[:4] == [0, 1, 2, 3]
    assert seen[4:] == [4, 5]
    assert connection().ttl(leases.changes_key(machine.place())) > 0


def test_a_renewal_does_not_move_it() -> None:
    mine = leases.of_this_process("w", [QUEUE])
    mine.renew(create=True)
    mine.renew()
    assert counter() == 1


# --- and misses nobody ----------------------------------------------------------------------------


def test_a_lease_that_is_over_is_seen_without_it(known: Roster, reads: list[None]) -> None:
    for worker in ("here", "there"):
        lease_lasts(worker, -0.1)
    assert names(known.look(True).silent) == ["here", "there"]
    assert known.look(False).silent == []
    assert reads == []


def test_one_lease_that_lasts_is_enough(known: Roster) -> None:
    connection().zadd(leases_key(EVERYBODY), {"there": server_time() - 0.1})
    assert known.look(True).silent == []


def test_a_process_that_ends_is_missed_without_it(known: Roster, reads: list[None]) -> None:
    process = subprocess.Popen(["sleep", "60"])
    started = machine.process_started(process.pid)
    register(registration("beside", pid=process.pid, started=started))
    assert known.look(False).gone == []
    reads.clear()
    process.kill()
    process.wait()
    assert names(known.look(False).gone) == ["beside"]
    assert reads == []


def test_the_last_that_expired_are_seen_behind_any_number_that_nobody_has_registered(
    monkeypatch: pytest.MonkeyPatch, known: Roster
) -> None:
    monkeypatch.setattr(roster, "EXPIRED_AT_MOST", 2)
    ago = {f"nobody {number}": server_time() - 100 - number for number in range(5)}
    connection().zadd(leases_key(EVERYBODY), ago)
    dead = [f"dead {number}" for number in range(5)]
    for worker in dead:
        register(registration(worker, place=ELSEWHERE), seconds=-1)
    known.look(False)  # so that all are known, and only the leases tell
    assert len(known.look(True).silent) == 2
    found = []
    while losses := rescue(True, known):
        found += [loss.worker for loss in losses]
    assert sorted(found) == dead


def test_a_lease_that_has_vanished_is_missed_after_a_while() -> None:
    live("here")
    register(registration("there", place=ELSEWHERE))
    known = Roster()
    assert known.look(True).silent == []
    for name in (EVERYBODY, QUEUE):
        connection().zrem(leases_key(name), "there")
    [lost] = eventually(lambda: known.look(True).silent)
    assert lost.worker == "there"


def test_with_few_workers_all_is_read_at_each_look_and_with_many_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(roster.SystemRandom, "uniform", lambda self, low, high: 1.5)
    for workers, pause in ((2, 0.75), (400, 150.0)):
        connection().hset(REGISTRY, mapping={f"w{number}": "{}" for number in range(workers)})
        known = Roster()
        monkeypatch.setattr(roster.time, "monotonic", lambda: 1000.0)
        known.look(True)
        assert known._read_again == 1000.0 + pause


def test_many_workers_take_turns_at_asking(
    monkeypatch: pytest.MonkeyPatch, known: Roster, ended: int
) -> None:
    lease_lasts("there", -0.1)
    assert names(known.look(True).silent) == ["there"]
    assert names(known.look(True).silent) == ["there"]
    now = 1000.0
    monkeypatch.setattr(roster.time, "monotonic", lambda: now)
    monkeypatch.setattr(roster, "ASK_ALWAYS", 1)
    monkeypatch.setattr(roster, "LOOKS_A_SECOND", 0.2)  # by 2 workers: each after 5 to 15 s
    known.forget()
    assert names(known.look(True).silent) == ["there"]
    assert known.look(True).silent == []
    now += 15
    assert names(known.look(True).silent) == ["there"]
    # What is known of this machine's own processes is looked at all the time.
    monkeypatch.setattr(Registration, "process_is_gone", lambda one: True)
    assert names(known.look(True).gone) == ["here"]


def test_what_an_older_velo_registers_is_seen_though_it_counts_nothing(
    known: Roster, ended: int
) -> None:
    connection().hset(REGISTRY, "old", registration(pid=ended).entry)
    assert [loss.why for loss in rescue(False, known)] == [GONE]


def test_all_is_seen_where_nobody_has_counted() -> None:
    """A registry that an older Velo has left."""
    old = registration("old", place=ELSEWHERE)
    connection().hset(REGISTRY, "old", old.entry)
    lease_lasts("old", -0.1)
    assert [loss.why for loss in rescue(True, Roster())] == [RAN_OUT]
    assert connection().hlen(REGISTRY) == 0


def test_what_is_out_of_date_judges_nobody_and_is_read_again(
    known: Roster, reads: list[None], ended: int
) -> None:
    register(registration(pid=ended))
    assert names(known.look(False).gone) == ["w"]
    # Now it lives again, and an older Velo has counted nothing.
    connection().hset(REGISTRY, "w", registration().entry)
    assert rescue(False, known) == []
    assert "w" in names(leases.registered())
    reads.clear()
    assert known.look(False).gone == []
    assert len(reads) == 1


# --- who looks, and when --------------------------------------------------------------------------


def test_a_worker_keeps_what_it_knows_from_look_to_look(
    letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Any] = []

    def note(judge_leases: bool = True, roster: Roster | None = None) -> list[Any]:
        kept.append(roster)
        return []

    monkeypatch.setattr("workers.broker.rescue.rescue", note)
    letters.before = lambda: eventually(lambda: len(kept) >= 3)
    enqueue("text")
    work()
    looked = kept[1:]  # the first is at its start
    assert isinstance(looked[0], Roster)
    assert set(map(id, looked)) == {id(looked[0])}


def test_tickers_that_start_together_do_not_tick_together() -> None:
    class Pauses(threading.Event):
        def __init__(self, ticker: Ticker) -> None:
            super().__init__()
            self.ticker = ticker
            self.seconds: list[float] = []

        def wait(self, timeout: float | None = None) -> bool:
            self.seconds.append(timeout or 0.0)
            if len(self.seconds) == 20:
                self.ticker.stop()
            return False

    firsts, rest = set(), set()
    for _ in range(5):
        ticker = Ticker("a test", 10.0, lambda: None)
        ticker._due = pauses = Pauses(ticker)
        ticker.run()
        firsts.add(pauses.seconds[0])
        rest.update(pauses.seconds[1:])
    assert len(firsts) == 5
    assert max(firsts) - min(firsts) > 0.5
    assert min(firsts) >= 0
    assert max(firsts) <= 10
    assert len(rest) > 90
    assert 10 * (1 - JITTER) <= min(rest) < max(rest) <= 10 * (1 + JITTER)

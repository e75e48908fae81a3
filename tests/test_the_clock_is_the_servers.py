"""Deadlines go by the clock of the Redis server, as closely as a round trip allows."""

import threading
import time
from typing import Any

import pytest
from rq.job import Job, JobStatus
from rq.registry import ScheduledJobRegistry
from rq.results import Result

from tests.jobs import admitted, claim, enqueue, server_time
from tests.letters import Letters, answer, work
from tests.waiting import eventually
from workers.broker import enqueue as broker
from workers.broker.clock import Clock, clock
from workers.broker.connection import connection, queue
from workers.broker.enqueue import NewJob
from workers.broker.names import QUEUE
from workers.broker.wire import JSONSerializer

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db(transaction=True)]

NEAR = 0.5  # seconds


def off(one: Clock) -> float:
    """How far it is from what the server says just before and just after; below 0: behind."""
    before = server_time()
    now = one.now()
    after = server_time()
    return min(now - before, 0) or max(now - after, 0)


def let_in(*given: tuple[str, float]) -> list[Job]:
    """Each text is enqueued with the seconds for which its caller waits."""
    new = [NewJob(QUEUE, text, text, seconds) for text, seconds in given]
    with admitted():
        assert broker.enqueue(QUEUE, new).admitted == len(new)
    return [Job.fetch(job.id, connection(), JSONSerializer) for job in new]


def test_it_is_read_from_the_server() -> None:
    assert abs(off(Clock())) < NEAR


def test_what_the_server_has_just_said_counts_and_not_this_machines_clock() -> None:
    ahead = Clock()
    ahead.learn(server_time() + 3600)
    assert off(ahead) == pytest.approx(3600, abs=NEAR)


def test_it_is_read_again_when_the_last_reading_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Clock()
    wrong.learn(server_time() + 5)
    assert off(wrong) == pytest.approx(5, abs=NEAR)
    monkeypatch.setattr(Clock, "MAX_AGE", -1)
    assert abs(off(wrong)) < NEAR


def test_every_enqueue_and_every_claim_sets_it_right() -> None:
    for ask in (lambda: let_in(("text", 30)), lambda: claim("w")):
        clock.learn(server_time() - 3600)
        assert ask()
        assert abs(off(clock)) < NEAR


def test_a_job_is_answered_before_its_deadline_and_dropped_after_it(letters: Letters) -> None:
    enqueue("first")
    let: list[Job] = []

    def enqueue_others() -> None:
        """While the model computes, so that the worker takes them up at once."""
        letters.before = lambda: None
        let.extend(let_in(("late", 0.2), ("in time", 4.5)))
        late = server_time() + 0.2
        eventually(lambda: server_time() > late)

    letters.before = enqueue_others
    work()
    assert letters.batches == [["first"], ["in time"]]
    assert not Job.exists(let[0].id, connection())
    assert answer(let[1]) == "in time"


def test_a_job_that_fails_after_its_deadline_is_not_tried_again(
    letters: Letters, settings: Any
) -> None:
    settings.VELO_RETRY_MAX, settings.VELO_RETRY_INTERVALS = 2, [60]
    enqueue("first")
    let: list[Job] = []

    def enqueue_others() -> None:
        letters.before = until_it_is_late
        let.extend(let_in(("bad and late", 1.5), ("bad", 30)))

    def until_it_is_late() -> None:
        letters.before = lambda: None
        late = server_time() + 1.5
        eventually(lambda: server_time() > late)

    letters.before = enqueue_others
    work()
    assert letters.batches[1] == ["bad", "bad and late"]
    assert [job.get_status() for job in let] == [JobStatus.FAILED, JobStatus.SCHEDULED]
    assert ScheduledJobRegistry(queue=queue()).get_job_ids() == [let[1].id]
    assert [result.type for result in let[0].results()] == [Result.Type.FAILED]


def test_a_model_call_ends_when_nobody_waits_for_it_any_more(
    letters: Letters, settings: Any
) -> None:
    """Long before its jobs' own timeout."""
    settings.VELO_JOB_TIMEOUT = 60
    let_in(("text", 2), ("another", 1))
    took: list[float] = []

    def hang() -> None:
        began = time.monotonic()
        pause = threading.Event()
        try:
            # Not one long wait: the kernel may give the alarm to another thread, which ends none.
            while time.monotonic() < began + 50:
                pause.wait(0.05)
        finally:
            took.append(time.monotonic() - began)

    letters.before = hang
    work()
    assert letters.calls == [2]  # nor is it tried again
    assert took[0] < 30

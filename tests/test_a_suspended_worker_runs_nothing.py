"""While RQ is suspended (`manage.py rqsuspend`) workers finish what they have and take no more."""

from collections.abc import Iterator
from typing import Any

import pytest
from rq.job import JobStatus
from rq.suspension import resume, suspend

from tests.jobs import enqueue
from tests.letters import Letters, answer, work
from workers.broker.connection import connection, queue
from workers.runtime.worker import InferenceWorker

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def resumed(redis: None) -> Iterator[None]:
    yield
    resume(connection())


@pytest.mark.parametrize("knobs", [{"burst": True}, {"max_idle_time": 1}])
def test_a_worker_takes_no_job_until_rq_is_resumed(letters: Letters, knobs: dict[str, Any]) -> None:
    suspend(connection())
    jobs = [enqueue(text) for text in "abc"]
    InferenceWorker([queue()], connection=connection()).work(**knobs)
    assert letters.batches == []
    assert queue().job_ids == [job.id for job in jobs]
    resume(connection())
    InferenceWorker([queue()], connection=connection()).work(**knobs)
    assert [answer(job) for job in jobs] == list("abc")


@pytest.mark.parametrize("in_hand", [1, 2])
def test_what_is_in_hand_is_finished_and_not_one_job_more_runs(
    letters: Letters, in_hand: int
) -> None:
    """With two inputs in hand a worker claims ahead while the model computes."""
    having = [enqueue(text) for text in "ab"[:in_hand]]
    later = []

    def suspend_rq() -> None:
        letters.before = lambda: None
        suspend(connection())
        later.extend(enqueue(text) for text in "xyz")

    letters.before = suspend_rq
    work()
    assert letters.batches == [list("ab"[:in_hand])]
    assert [answer(job) for job in having] == list("ab"[:in_hand])
    assert [job.get_status() for job in later] == [JobStatus.QUEUED] * 3

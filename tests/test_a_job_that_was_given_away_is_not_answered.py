"""A worker's answers and failures count only for jobs that are still its own; strays go back."""

import pytest
from rq import get_current_job
from rq.job import Job, JobStatus

from tests.jobs import enqueue
from tests.letters import Letters, answer, work
from tests.waiting import eventually
from workers.broker import claims
from workers.broker.connection import connection, queue

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db(transaction=True)]


def give_away(job: Job) -> None:
    """As if its worker had been taken for dead, and another one had claimed the job since."""
    connection().hset(job.key, "worker_name", "another")


def add_and_lose(first: int, second: int) -> int:
    """A job of RQ's own."""
    job = get_current_job()
    assert job
    give_away(job)
    return first + second


def fail_and_lose() -> None:
    add_and_lose(1, 2)
    raise ValueError("bad")


def is_anothers(job: Job) -> bool:
    job.refresh()
    return (job.get_status(), job.worker_name, job.results()) == (JobStatus.STARTED, "another", [])


@pytest.mark.parametrize("text", ["good", "bad"])
def test_what_the_model_says_of_it_is_dropped(letters: Letters, text: str) -> None:
    kept, lost = enqueue("kept"), enqueue(text)
    letters.before = lambda: give_away(lost)
    work()
    assert answer(kept) == "kept"
    assert is_anothers(lost)


@pytest.mark.parametrize(("name", "args"), [("add_and_lose", (1, 2)), ("fail_and_lose", ())])
def test_what_a_job_of_rqs_own_returns_or_raises_is_dropped(
    letters: Letters, name: str, args: tuple[int, ...]
) -> None:
    lost = queue().enqueue_call(f"{__name__}.{name}", args=args)
    work()
    assert is_anothers(lost)


def test_a_claimed_job_in_nobodys_hand_goes_back_to_its_queue_and_is_answered(
    letters: Letters,
) -> None:
    """The reply to its claim was lost, say."""
    enqueue("first")
    strays: list[Job] = []

    def lose_a_reply() -> None:
        letters.before = lambda: None
        strays.append(enqueue("stray"))
        assert len(claims.claim(connection(), "w", [queue()], 1)) == 1
        assert strays[0].get_status() == JobStatus.STARTED
        eventually(lambda: strays[0].get_status() == JobStatus.QUEUED)

    letters.before = lose_a_reply
    work(name="w")
    assert letters.batches == [["first"], ["stray"]]
    assert answer(strays[0]) == "stray"

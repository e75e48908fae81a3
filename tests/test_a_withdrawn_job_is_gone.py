"""A job that no worker has started can be withdrawn: nothing of it is left."""

import pytest
from rq.job import Job, JobStatus
from rq.registry import ScheduledJobRegistry

from tests.jobs import claim, live
from workers.broker import enqueue as broker
from workers.broker.connection import connection, queue
from workers.broker.enqueue import NewJob, promote_due, withdraw
from workers.broker.names import QUEUE
from workers.broker.wire import JSONSerializer

pytestmark = pytest.mark.usefixtures("redis")


def let_in(text: str, crashes: int = 0) -> tuple[NewJob, Job]:
    live("a test")
    new = NewJob(QUEUE, text, text, 30, crashes=crashes)
    assert broker.enqueue(QUEUE, [new]).admitted == 1
    return new, Job.fetch(new.id, connection(), JSONSerializer)


def schedule(job: Job, seconds: float) -> None:
    """It is to be tried again then, in Unix seconds."""
    connection().lrem(queue().key, 1, job.id)
    job.set_status(JobStatus.SCHEDULED)
    connection().zadd(ScheduledJobRegistry(queue=queue()).key, {job.id: seconds})


def scheduled() -> list[str]:
    return [job_id.decode() for job_id in connection().zrange("rq:scheduled:default", 0, -1)]


@pytest.mark.parametrize("crashes", [0, 2])
def test_one_that_waits_leaves_its_queue_and_says_in_how_many_crashes_it_was(crashes: int) -> None:
    (_, before), (new, job), (_, after) = let_in("a"), let_in("b", crashes), let_in("c")
    assert withdraw([new]) == [crashes]
    assert not Job.exists(job.id, connection())
    assert queue().job_ids == [before.id, after.id]


def test_one_that_is_to_be_tried_again_leaves_the_schedule() -> None:
    (new, job), (_, other) = let_in("a"), let_in("b")
    for one in (job, other):
        schedule(one, 9e9)
    assert withdraw([new]) == [0]
    assert not Job.exists(job.id, connection())
    assert scheduled() == [other.id]


def test_one_that_a_worker_has_stays_with_it() -> None:
    new, job = let_in("a")
    claim("w")
    assert withdraw([new]) == [None]
    assert job.get_status() == JobStatus.STARTED


def test_a_job_that_is_gone_when_its_retry_is_due_is_not_put_into_the_queue() -> None:
    """Redis may have forgotten it, or a person has deleted it."""
    (_, gone), (_, here), (_, later) = let_in("a"), let_in("b"), let_in("c")
    for one, due in ((gone, 1), (here, 2), (later, 9e9)):
        schedule(one, due)
    connection().delete(gone.key)
    assert promote_due(queue()) == 1
    assert queue().job_ids == [here.id]
    assert here.get_status() == JobStatus.QUEUED
    assert scheduled() == [later.id]

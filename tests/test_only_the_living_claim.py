"""A worker takes jobs only while its lease lasts, by the clock of the Redis server."""

import pytest
from rq.job import JobStatus

from tests.jobs import enqueue, lease_lasts, live
from workers.broker import claims
from workers.broker.claims import LeaseOver
from workers.broker.connection import connection, queue
from workers.broker.names import EVERYBODY, leases_key

pytestmark = pytest.mark.usefixtures("redis")


def claim() -> list[str]:
    found = claims.claim(connection(), "w", [queue()], 32)
    return [claimed.job_id for claimed in found]


@pytest.mark.parametrize("seconds", [-3600, -0.001])
def test_a_worker_whose_lease_is_over_gets_no_job(seconds: float) -> None:
    """Others may be putting its jobs back at this moment."""
    live("w")
    job = enqueue("text")
    lease_lasts("w", seconds)
    with pytest.raises(LeaseOver):
        claim()
    assert job.get_status() == JobStatus.QUEUED
    assert queue().job_ids == [job.id]


def test_a_worker_that_has_no_lease_gets_no_job() -> None:
    live("w")
    job = enqueue("text")
    connection().zrem(leases_key(EVERYBODY), "w")
    with pytest.raises(LeaseOver):
        claim()
    assert queue().job_ids == [job.id]


def test_a_worker_whose_lease_lasts_gets_it() -> None:
    live("w")
    job = enqueue("text")
    lease_lasts("w", 5)
    assert claim() == [job.id]
    assert job.get_status() == JobStatus.STARTED

"""A worker that lost its own lease doesn't reclaim other workers' jobs until it has been steady."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.jobs import enqueue, lease_lasts, live, server_time
from tests.letters import Letters, work
from tests.waiting import eventually
from workers.broker import leases
from workers.broker.connection import connection
from workers.broker.names import EVERYBODY, leases_key

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db(transaction=True)]

LEASE = 2.0  # seconds


def is_registered(worker: str) -> bool:
    return any(one.worker == worker for one in leases.registered())


def judged(worker: str) -> float:
    """When others have noticed that it is gone, on the monotonic clock."""
    give_up = time.monotonic() + 30
    while is_registered(worker):
        assert time.monotonic() < give_up
        threading.Event().wait(0.02)
    return time.monotonic()


def silent(worker: str) -> None:
    """A worker whose lease is over."""
    live(worker)
    lease_lasts(worker, -0.1)


def test_it_is_steady_for_as_long_as_a_lease_before_it_judges_others(
    letters: Letters, settings: Any
) -> None:
    settings.VELO_LEASE, settings.VELO_JOB_TIMEOUT, settings.VELO_REQUEST_TIMEOUT = LEASE, 60, 60
    enqueue("text")
    silences: list[float] = []  # seconds from the silence to the judgement

    def lose_the_lease() -> None:
        """While the model computes, and once it judges others."""
        began = first.result() and time.monotonic()
        lease_lasts("w", -0.1)
        eventually(lambda: (connection().zscore(leases_key(EVERYBODY), "w") or 0) > server_time())
        silent("second")
        silences.append(judged("second") - began)

    with ThreadPoolExecutor(1) as watching:
        letters.before = lose_the_lease
        silent("first")
        began = time.monotonic()
        first = watching.submit(judged, "first")
        work(name="w")
        silences.append(first.result() - began)  # since its start
    assert len(silences) == 2
    assert all(seconds > LEASE for seconds in silences), silences

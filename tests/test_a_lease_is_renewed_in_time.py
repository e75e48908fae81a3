"""A worker learns from the renewal of its lease whether its jobs may have been given to others."""

from typing import Any

import pytest

from tests.jobs import lease_lasts, server_time
from workers.broker import leases
from workers.broker.connection import connection
from workers.broker.leases import FORGET_AFTER, Registration, Renewal
from workers.broker.names import EVERYBODY, QUEUE, leases_key

pytestmark = pytest.mark.usefixtures("redis")

KEYS = [leases_key(EVERYBODY), leases_key(QUEUE)]


@pytest.fixture
def mine() -> Registration:
    made = leases.of_this_process("w", [QUEUE])
    assert made.renew(create=True) is Renewal.IN_TIME
    return made


def left(key: str) -> float:
    """Seconds that the lease lasts from now; below 0: it is over."""
    return float(connection().zscore(key, "w") or 0) - server_time()


def test_in_time_it_lasts_as_long_as_a_new_one(mine: Registration, settings: Any) -> None:
    lease_lasts("w", 1)
    settings.VELO_LEASE = 10
    assert mine.renew() is Renewal.IN_TIME
    assert all(5 < left(key) <= 10 for key in KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_one_lease_that_was_over_makes_it_late(mine: Registration, key: str) -> None:
    connection().zadd(key, {"w": server_time() - 0.01})
    assert mine.renew() is Renewal.LATE
    assert all(left(key) > 0 for key in KEYS)


def test_a_worker_that_was_taken_for_dead_does_not_renew_it(mine: Registration) -> None:
    """Its jobs are in the hands of others; to go on it has to register again."""
    mine.give_back()
    assert mine.renew() is Renewal.GONE
    assert not any(connection().exists(key) for key in KEYS)
    assert mine.renew(create=True) is Renewal.IN_TIME


def test_nor_does_a_namesake_renew_it_that_another_process_has_replaced(mine: Registration) -> None:
    other = Registration("w", mine.entry.replace('"started": "', '"started": "1'))
    other.renew(create=True)
    lease_lasts("w", 1)
    assert mine.renew() is Renewal.GONE
    assert left(KEYS[0]) <= 1


def test_leases_that_ended_long_ago_are_forgotten(mine: Registration) -> None:
    now = server_time()
    old = {"long ago": now - FORGET_AFTER - 1, "just now": now - 1}
    connection().zadd(KEYS[0], old)
    mine.renew()
    assert connection().zrange(KEYS[0], 0, -1) == [b"just now", b"w"]

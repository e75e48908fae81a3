"""A worker with several versions hears of a job in any of their queues at once."""

import threading
import time
from collections.abc import Iterator

import pytest

from tests.waiting import eventually
from workers.broker.connection import connection
from workers.broker.doorman import Doorman

pytestmark = pytest.mark.usefixtures("redis")

KEYS = ["a queue", "b queue", "c queue"]


@pytest.fixture
def doorman() -> Iterator[Doorman]:
    made = Doorman(connection())
    yield made
    made.wait(KEYS[:1], 1)
    eventually(lambda: not watching())


def watching() -> list[str]:
    """Keys at which a thread waits."""
    start = "worker waits for "
    names = sorted(thread.name for thread in threading.enumerate())
    return [name.removeprefix(start) for name in names if name.startswith(start)]


@pytest.mark.parametrize("keys", [KEYS[:1], KEYS])
def test_it_wakes_up_for_a_job_and_leaves_it_there(doorman: Doorman, keys: list[str]) -> None:
    for key in keys:
        waiting = threading.Thread(target=doorman.wait, args=(keys, 30))
        began = time.monotonic()
        waiting.start()
        connection().rpush(key, "job 1", "job 2")
        waiting.join()
        assert time.monotonic() - began < 15
        assert connection().lrange(key, 0, -1) == [b"job 1", b"job 2"]
        connection().delete(key)
        doorman.wait(keys, 0 if len(keys) > 1 else 1)


@pytest.mark.parametrize("keys", [KEYS[:1], KEYS])
def test_a_job_that_is_there_already_is_seen(doorman: Doorman, keys: list[str]) -> None:
    connection().rpush(keys[-1], "job")
    began = time.monotonic()
    for _ in range(10):
        doorman.wait(keys, 30)
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("keys", [KEYS[:1], KEYS])
def test_it_waits_no_longer_than_it_is_told(doorman: Doorman, keys: list[str]) -> None:
    began = time.monotonic()
    doorman.wait(keys, 1)
    assert 0.9 < time.monotonic() - began < 10


def test_there_is_one_thread_for_each_of_several_queues(doorman: Doorman) -> None:
    doorman.wait(KEYS[:1], 1)
    assert watching() == []
    for _ in range(3):
        doorman.wait(KEYS, 0)
    assert watching() == KEYS
    doorman.wait(KEYS[1:], 0)
    eventually(lambda: watching() == KEYS[1:])
    doorman.wait(KEYS[:1], 1)
    eventually(lambda: watching() == [])


def test_a_queue_that_comes_back_at_once_has_one_thread_too(doorman: Doorman) -> None:
    """Its former thread, in the middle of a look, hasn't noticed that it was to end."""
    for _ in range(5):
        doorman.wait(KEYS[:2], 0)
        doorman.wait(KEYS[1:], 0)
    doorman.wait(KEYS, 0)
    assert watching() == KEYS

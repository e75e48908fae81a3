"""A Redis whose memory is full refuses a step before any job has left its place, not halfway."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from redis.exceptions import OutOfMemoryError
from rq.registry import ScheduledJobRegistry

from tests.jobs import enqueue, lease_lasts, live, server_time
from workers.broker import claims
from workers.broker import enqueue as broker
from workers.broker.claims import Answer, Claim
from workers.broker.connection import connection, queue
from workers.broker.enqueue import NewJob, promote_due
from workers.broker.names import QUEUE
from workers.broker.rescue import rescue

pytestmark = pytest.mark.usefixtures("redis")


@contextmanager
def full_memory() -> Iterator[None]:
    connection().config_set("maxmemory", 1)
    try:
        yield
    finally:
        connection().config_set("maxmemory", 0)


def everything() -> dict[bytes, bytes]:
    """All that Redis keeps, as it would move it to another server."""
    return {key: connection().dump(key) for key in connection().scan_iter()}


def claim(worker: str) -> Claim:
    live(worker)
    lease_lasts(worker, 60)
    [claimed] = claims.claim(connection(), worker, [queue()], 1)
    return claimed


@pytest.fixture
def in_hand() -> Claim:
    """What "w" has, while one job waits, one is due for its retry, and a dead worker has one."""
    enqueue("of a dead worker")
    claim("dead")
    lease_lasts("dead", -0.1)
    enqueue("in hand")
    mine = claim("w")
    due = enqueue("due")
    connection().lrem(queue().key, 1, due.id)
    ScheduledJobRegistry(queue=queue()).add(due, 0)
    connection().zadd(ScheduledJobRegistry(queue=queue()).key, {due.id: server_time() - 1})
    enqueue("waiting")
    return mine


STEPS: dict[str, Callable[[Claim], object]] = {
    "claim": lambda mine: claims.claim(connection(), "w", [queue()], 32),
    "finish": lambda mine: claims.finish(connection(), "w", [Answer(mine, {"output": []}, 60)], 1),
    "put back": lambda mine: claims.put_back(connection(), "w", [mine.execution_key]),
    "promote": lambda mine: promote_due(queue()),
    "rescue": lambda mine: rescue(),
    "enqueue": lambda mine: broker.enqueue(QUEUE, [NewJob(QUEUE, "new", "new", 30)]),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_is_refused_whole_and_done_later(step: str, in_hand: Claim) -> None:
    before = everything()
    with full_memory():
        with pytest.raises(OutOfMemoryError):
            STEPS[step](in_hand)
        assert everything() == before
    assert STEPS[step](in_hand)
    assert everything() != before

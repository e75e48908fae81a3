"""How long jobs may wait, and behind which others: lifetimes, lanes and heavy jobs."""

import pytest

from tests.jobs import claim, live
from workers.broker import claims, rescue
from workers.broker.claims import HEAVY_AT_MOST
from workers.broker.connection import connection, queue
from workers.broker.enqueue import HEAVY, Load, NewJob, enqueue, promote_due, withdraw
from workers.broker.names import Lane, lane_key

pytestmark = pytest.mark.usefixtures("redis")

LABEL, OTHER = "a@1", "b@1"
W = "a worker"


def job(text: str, label: str = LABEL, **more: object) -> NewJob:
    return NewJob(label, text, text[:20], 30.0, **more)  # type: ignore[arg-type]


def put(*jobs: NewJob) -> list[str]:
    """Into the queue; returns their ids."""
    live(W, LABEL, OTHER)
    for one in jobs:
        assert enqueue(one.queue, [one]).admitted == 1
    return [one.id for one in jobs]


def background(text: str, label: str = LABEL) -> NewJob:
    return job(text, label, lane=Lane.BACKGROUND, lifetime=7200.0)


def heavy(name: str, size: int = HEAVY_AT_MOST // 2 - 1000) -> NewJob:
    return job(name + "x" * size)


def claimed(limit: int = 32, *queues: str) -> list[str]:
    return [one.job_id for one in claim(W, *(queues or (LABEL, OTHER)), limit=limit)]


def test_a_job_waits_as_long_as_it_is_told(settings: object) -> None:
    settings.VELO_REQUEST_TIMEOUT = 30  # type: ignore[attr-defined]
    short, long = put(job("short"), job("long", lifetime=7200.0))
    assert 25 < connection().ttl(f"rq:job:{short}") <= 30
    assert 7100 < connection().ttl(f"rq:job:{long}") <= 7200
    assert connection().hget(f"rq:job:{long}", "ttl") == b"7200"


def test_the_background_is_claimed_when_nothing_interactive_waits_in_any_queue() -> None:
    b1, b2 = put(background("b1"), background("b2", OTHER))
    i1, i2 = put(job("i1"), job("i2", OTHER))
    assert claimed() == [i1, i2]
    assert claimed() == [b1, b2]
    assert claimed() == []


def test_the_lanes_have_room_of_their_own(settings: object) -> None:
    settings.VELO_MAX_QUEUE = 2  # type: ignore[attr-defined]
    put(background("b1"), background("b2"))
    assert enqueue(LABEL, [job("i1"), job("i2")]) == Load(waiting=0, workers=1, admitted=2)
    assert enqueue(LABEL, [background("b3")]) == Load(waiting=2, workers=1, admitted=0)
    assert enqueue(LABEL, [background("b3")], most=10_000).admitted == 1


def test_a_job_in_the_background_goes_back_to_where_it_was() -> None:
    [b1] = put(background("b1"))
    list_ = lane_key(LABEL, Lane.BACKGROUND)
    [one] = claim(W, LABEL)
    claims.put_back(connection(), W, [one.execution_key])
    assert connection().lrange(list_, 0, -1) == [b1.encode()]
    [one] = claim(W, LABEL)
    rescue.charge(W, [one.execution_key], rescue.HUNG)
    assert connection().lrange(list_, 0, -1) == [b1.encode()]
    connection().lrem(list_, 1, b1)
    connection().zadd("rq:scheduled:a@1", {b1: 1})
    assert promote_due(queue(LABEL)) == 1
    assert connection().lrange(list_, 0, -1) == [b1.encode()]


def test_a_job_in_the_background_can_be_withdrawn() -> None:
    one = background("b1")
    put(one)
    assert withdraw([one, one]) == [0, None]
    assert not connection().exists(lane_key(LABEL, Lane.BACKGROUND), f"rq:job:{one.id}")


def test_a_suspect_holds_up_the_background_too() -> None:
    put(background("b1"))
    [suspect] = put(job("suspect"))
    connection().hset(f"rq:job:{suspect}", "crashes", 1)
    assert claims.claim(connection(), W, [queue(LABEL)], 32, suspects=False) == []


def test_heavy_jobs_wait_behind_each_other_and_hold_up_no_light_one() -> None:
    h = put(*(heavy(f"h{number}") for number in range(5)))
    light = put(job("l1"), job("l2"))
    assert claimed() == [*h[:2], *light]
    more = put(job("l3"), heavy("h5"), job("l4"))
    assert claimed() == [*h[2:4], more[0], more[2]]
    assert claimed() == [h[4], more[1]]
    assert claimed() == []


def test_the_heaviest_job_is_claimed_all_the_same_but_alone_among_its_kind() -> None:
    h1, h2 = put(heavy("h1", 2 * HEAVY_AT_MOST), heavy("h2", 2 * HEAVY_AT_MOST))
    assert claimed() == [h1]
    assert claimed() == [h2]


def test_light_jobs_are_not_counted() -> None:
    ids = put(*(job("x" * (HEAVY - 1000)) for _ in range(20)))
    assert claimed() == ids


def test_a_limit_holds_for_heavy_and_light_ones_together() -> None:
    h = put(*(heavy(f"h{number}") for number in range(4)))
    light = put(*(job(f"l{number}") for number in range(6)))
    assert claimed(4) == [*h[:2], *light[:2]]
    assert connection().lrange("rq:queue:a@1", 0, -1) == [
        one.encode() for one in [*h[2:], *light[2:]]
    ]


def test_a_suspect_behind_heavy_ones_keeps_its_place() -> None:
    h = put(*(heavy(f"h{number}") for number in range(4)))
    suspect, last = put(job("suspect"), job("last"))
    connection().hset(f"rq:job:{suspect}", "crashes", 1)
    assert claimed() == h[:2]
    assert connection().lrange("rq:queue:a@1", 0, -1) == [
        one.encode() for one in [*h[2:], suspect, last]
    ]

"""A worker leaves a version's queue only where its jobs aren't nobody's then."""

import pytest
from rq.registry import ScheduledJobRegistry, StartedJobRegistry

from tests.answering import lose
from tests.jobs import live
from workers.broker import leases
from workers.broker.connection import connection, queue, script
from workers.broker.names import Lane, lane_key, leases_key

pytestmark = pytest.mark.usefixtures("redis")

LABEL = "m@1"
WAITING, STARTED, SCHEDULED = "waiting", "started", "scheduled"
BACKGROUND = "in the background"


def leave(away: bool = False) -> bool:
    origin = queue(LABEL)
    left = script("leave")(
        keys=[
            origin.key,
            leases_key(LABEL),
            StartedJobRegistry(queue=origin).key,
            ScheduledJobRegistry(queue=origin).key,
        ],
        args=["w1", int(away)],
        client=connection(),
    )
    return bool(left)


def serving() -> list[str]:
    return [name.decode() for name in connection().zrange(leases_key(LABEL), 0, -1)]


def add(what: str) -> None:
    origin = queue(LABEL)
    if what == WAITING:
        connection().rpush(origin.key, "job")
    elif what == BACKGROUND:
        connection().rpush(lane_key(LABEL, Lane.BACKGROUND), "job")
    else:
        registry = StartedJobRegistry if what == STARTED else ScheduledJobRegistry
        connection().zadd(registry(queue=origin).key, {"job": 9e9})


@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize("what", [None, WAITING, BACKGROUND, STARTED, SCHEDULED])
def test_where_others_serve_it_goes(away: bool, what: str | None) -> None:
    live("w1", LABEL)
    live("w2", LABEL)
    if what:
        add(what)
    assert leave(away)
    assert serving() == ["w2"]


@pytest.mark.parametrize("what", [WAITING, BACKGROUND, STARTED, SCHEDULED])
def test_the_last_one_stays_as_long_as_something_is_to_be_done(what: str) -> None:
    live("w1", LABEL)
    add(what)
    assert not leave()
    assert serving() == ["w1"]


def test_the_last_one_goes_when_all_is_done() -> None:
    live("w1", LABEL)
    assert leave()
    assert serving() == []


def test_the_last_one_does_not_go_for_a_while() -> None:
    """Requests still come: somebody has to take them."""
    live("w1", LABEL)
    assert not leave(away=True)
    assert serving() == ["w1"]


def test_who_has_died_serves_nothing() -> None:
    live("w1", LABEL)
    connection().zadd(leases_key(LABEL), {"w2": 1})  # its lease was over long ago
    add(WAITING)
    assert not leave()


def test_who_has_no_lease_any_more_counts_the_others_rightly() -> None:
    live("w1", LABEL)
    live("w2", LABEL)
    lose("w1")
    add(WAITING)
    assert leave()
    assert serving() == ["w2"]


def test_who_was_late_itself_counts_the_others_rightly() -> None:
    live("w1", LABEL)
    live("w2", LABEL)
    connection().zadd(leases_key(LABEL), {"w1": 1})  # its lease was over long ago
    add(WAITING)
    assert leave()
    assert serving() == ["w2"]


def test_a_lease_that_is_renewed_but_for_a_queue_ends_there() -> None:
    both = leases.of_this_process("w1", [LABEL, "m@2"])
    both.renew(create=True)
    assert leave()
    assert both.renew(without={LABEL}) is leases.Renewal.IN_TIME
    assert serving() == []
    assert connection().zcard(leases_key("m@2")) == 1

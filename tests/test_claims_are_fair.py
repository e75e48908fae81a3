"""A worker claims its share of what waits and is in hand, and leaves the rest to others."""

from typing import Any

import pytest

from tests.jobs import lease_lasts, live, waiting
from workers.broker import claims
from workers.broker.connection import connection, queue
from workers.broker.names import Lane, lane_key
from workers.runtime.intake import Intake

pytestmark = pytest.mark.usefixtures("redis")

A, B = "a@1", "b@1"


def wait(count: int, label: str = A, **fields: Any) -> list[str]:
    return [waiting(label, f"text {number}", **fields) for number in range(count)]


def take(worker: str, *labels: str, limit: int = 32, ahead: bool = False) -> int:
    """How many this worker gets; `ahead`: while it has others in hand."""
    queues = [queue(label) for label in labels or (A,)]
    return len(claims.claim(connection(), worker, queues, limit, suspects=not ahead))


@pytest.fixture
def four() -> None:
    for number in range(4):
        live(f"w{number}", A)


def test_each_gets_as_much_whoever_comes_first(four: None) -> None:
    wait(12)
    assert [take(f"w{number}") for number in range(4)] == [2, 2, 2, 2]
    assert [take(f"w{number}", ahead=True) for number in range(4)] == [1, 1, 1, 1]


def test_one_job_is_a_share(four: None) -> None:
    wait(2)
    assert [take(f"w{number}") for number in range(4)] == [1, 1, 0, 0]


def test_a_share_has_no_more_than_the_limit(four: None) -> None:
    wait(24)
    assert take("w0", limit=2) == 2


def test_what_others_have_in_hand_counts(four: None) -> None:
    """Who comes back for more gets as much as the others have, and not a part of the rest."""
    wait(16)
    assert [take(f"w{number}") for number in range(3)] == [2, 2, 2]
    assert take("w3") == 2


def test_who_has_its_share_in_hand_claims_nothing_ahead(four: None) -> None:
    wait(8)
    assert take("w0") == 1
    assert [take("w0", ahead=True) for _ in range(2)] == [1, 0]
    assert [take(f"w{number}") for number in (1, 2, 3)] == [1, 1, 1]


def test_where_others_have_theirs_it_claims_the_next_batch_ahead(four: None) -> None:
    wait(8)
    for ahead in (False, True):
        assert [take(f"w{number}", ahead=ahead) for number in range(4)] == [1, 1, 1, 1]
    wait(24)
    assert take("w0", ahead=True) == 6
    assert take("w0", ahead=True) == 0


def test_a_worker_that_is_alone_claims_all_and_ahead() -> None:
    live("w", A)
    wait(40)
    assert take("w") == 32
    assert take("w", ahead=True) == 8


def test_who_has_died_has_no_share(four: None) -> None:
    wait(12)
    for number in (2, 3):
        lease_lasts(f"w{number}", -0.1, A)
    assert take("w0") == 3


def test_who_serves_other_queues_has_no_share(four: None) -> None:
    live("other", B)
    wait(40)
    assert take("w0") == 5


def test_each_queue_has_a_share_of_its_own() -> None:
    live("both", A, B)
    live("only a", A)
    wait(4, A)
    wait(4, B)
    assert take("both", A, B) == 1 + 4
    assert (queue(A).count, queue(B).count) == (3, 0)


def test_what_is_in_hand_of_one_queue_counts_for_all() -> None:
    live("both", A, B)
    live("too", A, B)
    wait(8, A)
    assert take("both", A, B) == 2
    wait(2, B)
    # (6 wait + 2 in hand) / 2 of one and 2 / 2 of the other, less the 2 in hand.
    assert take("both", B, A, ahead=True) == 3
    assert queue(B).count == 1


def test_a_full_hand_brings_no_background_forward(four: None) -> None:
    wait(8)
    wait(20, lane=Lane.BACKGROUND)
    assert take("w0") == 1
    assert [take("w0", ahead=True) for _ in range(2)] == [1, 0]
    assert connection().llen(lane_key(A, Lane.BACKGROUND)) == 20


def test_the_background_is_shared_too(four: None) -> None:
    wait(16, lane=Lane.BACKGROUND)
    assert take("w0") == 2


def test_who_comes_with_an_empty_hand_gets_a_job_whatever_redis_takes_for_its_own(
    four: None,
) -> None:
    """Strays: their answers couldn't be written, or the reply to a claim was lost."""
    connection().sadd("rq:worker:w0:executions", *(f"stray:{number}" for number in range(9)))
    wait(4)
    assert take("w0") == 1


def test_a_suspect_is_claimed_alone_also_out_of_a_share(four: None) -> None:
    ids = wait(12)
    connection().hset(f"rq:job:{ids[1]}", "crashes", 1)
    assert [take("w0"), take("w1"), take("w2")] == [1, 1, 2]


def test_a_batch_that_waits_to_be_filled_grows_to_a_share(settings: Any) -> None:
    settings.VELO_BATCH_WAIT_MS = 1
    live("w0", A)
    live("w1", A)
    wait(2)
    intake = Intake(connection(), "w0", lambda: [A])
    intake.pause = lambda seconds: wait(6) and None  # type: ignore[method-assign]
    assert len(intake.claim(32)) == 4
    assert queue(A).count == 4

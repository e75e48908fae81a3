"""The jobs of a dead worker go back to their queue: each once, oldest first, and not for ever."""

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from rq.job import Job, JobStatus
from rq.results import Result

from tests.jobs import claim, enqueue, lease_lasts
from workers.broker import claims, leases
from workers.broker.connection import connection, queue
from workers.broker.leases import Registration
from workers.broker.names import QUEUE
from workers.broker.rescue import GONE, HUNG, RAN_OUT, charge, rescue, rescue_namesake

pytestmark = pytest.mark.usefixtures("redis")


def in_hand(worker: str, *texts: str) -> list[Job]:
    """Jobs that this worker has claimed, in the order in which they were enqueued."""
    jobs = [enqueue(text) for text in texts]
    assert len(claim(worker)) == len(texts)
    return jobs


def dies(worker: str) -> None:
    lease_lasts(worker, -0.1)


def crashes(job: Job) -> int:
    return int(connection().hget(job.key, "crashes") or 0)


def registered() -> list[str]:
    return [one.worker for one in leases.registered()]


def test_they_wait_first_in_the_queue_in_their_former_order() -> None:
    jobs = in_hand("w", *"abcdefgh")
    last = enqueue("last")
    dies("w")
    [loss] = rescue()
    assert (loss.worker, loss.why, loss.rescued, loss.failed) == ("w", RAN_OUT, 8, 0)
    assert queue().job_ids == [job.id for job in (*jobs, last)]
    assert {job.get_status() for job in jobs} == {JobStatus.QUEUED}
    assert [crashes(job) for job in jobs] == [1] * 8
    assert "w" not in registered()


def test_they_are_put_back_once() -> None:
    in_hand("w", "a")
    dies("w")
    assert len(rescue()) == 1
    assert rescue() == []
    assert queue().count == 1


def test_a_worker_whose_lease_lasts_keeps_its_jobs() -> None:
    [job] = in_hand("w", "a")
    assert rescue() == []
    assert job.get_status() == JobStatus.STARTED
    assert registered() == ["w"]


def test_one_lease_that_lasts_is_enough() -> None:
    """A worker renews its leases one after another."""
    [job] = in_hand("w", "a")
    dies("w")
    leases.of_this_process("w", [QUEUE, "m@1"]).renew(create=True)
    lease_lasts("w", -0.1)
    assert rescue() == []
    assert job.get_status() == JobStatus.STARTED


def test_a_job_that_another_worker_has_meanwhile_stays_with_it() -> None:
    """The dead worker's own record of it is older."""
    [job] = in_hand("w", "a")
    connection().hset(job.key, "worker_name", "another")
    dies("w")
    [loss] = rescue()
    assert (loss.rescued, loss.failed) == (0, 0)
    assert job.get_status() == JobStatus.STARTED
    assert queue().count == 0


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """What happens once, between the look at a worker's jobs and the step that takes them away."""
    look = connection().smembers

    def happens(what: Callable[[], object]) -> None:
        def look_and_then(key: str) -> Any:
            found = look(key)
            monkeypatch.undo()
            what()
            return found

        monkeypatch.setattr(connection(), "smembers", look_and_then)

    return happens


def test_a_job_claimed_at_the_last_moment_is_not_left_behind(meanwhile: Any) -> None:
    [first] = in_hand("w", "a")
    dies("w")
    second = enqueue("b")

    def claims_another() -> None:
        lease_lasts("w", 5)
        claims.claim(connection(), "w", [queue()], 1)
        dies("w")

    meanwhile(claims_another)
    assert rescue() == []  # look again
    [loss] = rescue()
    assert loss.rescued == 2
    assert queue().job_ids == [first.id, second.id]


def test_a_lease_renewed_at_the_last_moment_saves_a_workers_jobs(meanwhile: Any) -> None:
    [job] = in_hand("w", "a")
    dies("w")
    meanwhile(lambda: lease_lasts("w", 5))
    assert rescue() == []
    assert job.get_status() == JobStatus.STARTED
    assert registered() == ["w"]


# --- poison ---------------------------------------------------------------------------------------


def test_a_job_in_too_many_crashes_fails_and_its_history_is_kept(settings: Any) -> None:
    settings.VELO_MAX_CRASHES = 3
    [job] = in_hand("w1", "poison")
    for number in (1, 2):
        dies(f"w{number}")
        [loss] = rescue()
        assert (loss.rescued, loss.failed, crashes(job)) == (1, 0, number)
        assert job.get_status() == JobStatus.QUEUED
        [claimed] = claim(f"w{number + 1}")
        assert claimed.suspect
    dies("w3")
    [loss] = rescue()
    assert (loss.rescued, loss.failed) == (0, 1)
    assert job.get_status() == JobStatus.FAILED
    assert queue().count == 0
    [result] = job.results()
    assert result.type == Result.Type.FAILED
    assert "3 crashes with this job in flight (VELO_MAX_CRASHES=3)" in result.exc_string
    assert [f" w{number}: {RAN_OUT}" in result.exc_string for number in (1, 2, 3)] == [True] * 3


def test_what_a_worker_puts_back_itself_is_not_suspected() -> None:
    [job] = in_hand("w", "a")
    [execution] = connection().smembers("rq:worker:w:executions")
    assert claims.put_back(connection(), "w", [execution.decode()]) == 1
    assert crashes(job) == 0
    [claimed] = claim("another")
    assert not claimed.suspect


def test_what_a_model_hung_in_is_suspected(settings: Any) -> None:
    settings.VELO_MAX_CRASHES = 2
    [job] = in_hand("w", "a")
    for expected in ((1, 0), (0, 1)):
        [execution] = connection().smembers("rq:worker:w:executions")
        assert charge("w", [execution.decode()], HUNG) == expected
        claim("w")
    assert job.get_status() == JobStatus.FAILED
    assert HUNG in job.results()[0].exc_string


# --- a process that is gone -----------------------------------------------------------------------


def registration(**fields: Any) -> Registration:
    """Of a worker with a lease that lasts."""
    known = json.loads(leases.of_this_process("w", [QUEUE]).entry)
    made = Registration("w", json.dumps({**known, **fields}))
    made.renew(create=True)
    return made


@pytest.fixture
def ended() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_a_process_that_has_ended_here_is_missed_at_once(ended: int) -> None:
    registration(pid=ended)
    [loss] = rescue(judge_leases=False)
    assert (loss.worker, loss.why) == ("w", GONE)


def test_a_process_with_the_id_of_an_ended_one_is_another() -> None:
    registration(started="1")
    assert [loss.why for loss in rescue(judge_leases=False)] == [GONE]


@pytest.mark.parametrize("fields", [{"place": "elsewhere"}, {}])
def test_a_process_elsewhere_or_alive_is_not_judged_by_its_id(
    ended: int, fields: dict[str, str]
) -> None:
    registration(**fields, **({"pid": ended} if fields else {}))
    assert rescue(judge_leases=False) == []
    assert registered() == ["w"]


def test_a_namesake_that_lives_keeps_its_jobs(settings: Any) -> None:
    registration()
    lease_lasts("w", 60)
    settings.VELO_LEASE = 0.5
    assert rescue_namesake("w") == []
    assert registered() == ["w"]
    dies("w")
    assert [loss.why for loss in rescue_namesake("w")] == [RAN_OUT]

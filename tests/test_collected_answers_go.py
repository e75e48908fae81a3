"""An answer that its caller has collected stays in Redis for seconds; all else for its time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from rq.job import Job
from rq.results import Result

from inference.asking import new_job
from inference.exchange import Exchange
from inference.waiting import Ended, Request
from tests.answering import waiting
from tests.jobs import claim, enqueue, live, server_time
from tests.test_a_full_memory_moves_no_job import full_memory
from tests.waiting import eventually
from workers.broker import claims, collected, steering
from workers.broker.claims import Answer
from workers.broker.collected import AT_MOST, KEPT, Collected
from workers.broker.connection import connection, queue, script
from workers.broker.enqueue import NewJob

pytestmark = pytest.mark.usefixtures("redis")

SECONDS = 30.0
LABEL, OTHER = "m@1", "m@2"


@pytest.fixture
def shared(redis: None) -> Iterator[Exchange]:
    with closing(Exchange()) as opened:
        yield opened


@pytest.fixture
def by_hand(redis: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collected]:
    """It tells Redis only when a test lets it."""
    monkeypatch.setattr(collected, "EVERY", 1000.0)
    with closing(Collected()) as made:
        yield made


def finish(*queues: str) -> None:
    """All that wait there, for an answer that is kept for a minute."""
    answers = [Answer(one, {"output": [1.0]}, 60) for one in claim("w", *queues)]
    assert set(claims.finish(connection(), "w", answers, 0.1)) <= {claims.WRITTEN}


def finished(text: str = "text") -> NewJob:
    job = enqueue(text)
    finish()
    return NewJob("default", text, text, SECONDS, id=job.id)


def seconds_left(job: NewJob) -> list[float]:
    """Of the job, of its answer, and of its place in the list of finished jobs."""
    score = connection().zscore(f"rq:finished:{job.queue}", job.id)
    keys = (Job.key_for(job.id), Result.get_key(job.id))
    return [*map(connection().ttl, keys), -2 if score is None else score - server_time()]


def is_short(job: NewJob) -> bool:
    return all(0 < left <= KEPT for left in seconds_left(job))


def is_kept(job: NewJob) -> bool:
    return all(KEPT < left <= 60 for left in seconds_left(job))


def test_what_a_caller_has_collected_goes_soon_and_what_nobody_has_stays(shared: Exchange) -> None:
    live("w", LABEL)
    abandoned = new_job(LABEL, "abandoned", 0.01)
    assert shared.ask([abandoned]) == [None]
    several = [new_job(LABEL, f"text {number}", SECONDS) for number in range(3)]
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(shared.ask, several)
        eventually(lambda: len(waiting(LABEL)) == 4)
        finish(LABEL)
        assert all(isinstance(one, Ended) and one.succeeded for one in answer.result(SECONDS))
    eventually(lambda: all(map(is_short, several)))
    assert is_kept(abandoned)


@pytest.mark.parametrize("kind", list(Result.Type))
def test_only_a_success_is_collected(
    shared: Exchange, monkeypatch: pytest.MonkeyPatch, kind: Result.Type
) -> None:
    added: list[Any] = []
    monkeypatch.setattr(shared._collected, "add", added.append)
    [call] = Request([new_job(LABEL, "text", SECONDS)]).calls
    shared._open[call.job.id] = call
    shared._read(call, [(b"1-0", {b"type": str(kind.value).encode()})])
    assert added == ([call.job] if kind is Result.Type.SUCCESSFUL else [])


def test_an_answer_whose_caller_has_left_is_not_collected(
    shared: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    added: list[Any] = []
    monkeypatch.setattr(shared._collected, "add", added.append)
    [call] = Request([new_job(LABEL, "text", SECONDS)]).calls
    shared._read(call, [(b"1-0", {b"type": b"1"})])
    assert added == []


def test_a_job_that_a_person_has_asked_for_again_loses_nothing(by_hand: Collected) -> None:
    job = finished()
    by_hand.add(job)
    assert steering.requeue("default", [job.id]) == [job.id]
    by_hand.tell()
    assert connection().ttl(Job.key_for(job.id)) == -1
    finish()
    assert is_kept(job)


def test_a_shorter_life_is_not_made_longer(by_hand: Collected) -> None:
    job = finished()
    for key in (Job.key_for(job.id), Result.get_key(job.id)):
        connection().expire(key, 1)
    by_hand.add(job)
    by_hand.tell()
    assert connection().ttl(Job.key_for(job.id)) <= 1


def test_an_answer_that_is_kept_for_ever_stays(by_hand: Collected) -> None:
    job = finished()
    connection().persist(Job.key_for(job.id))
    by_hand.add(job)
    by_hand.tell()
    assert connection().ttl(Job.key_for(job.id)) == -1


def test_a_job_that_is_gone_is_no_error(by_hand: Collected) -> None:
    gone, there = finished(), finished()
    connection().delete(Job.key_for(gone.id))
    for job in (gone, there):
        by_hand.add(job)
    by_hand.tell()
    assert is_short(there)


def test_what_has_expired_leaves_the_list_of_finished_jobs(by_hand: Collected) -> None:
    key = "rq:finished:default"
    job = finished()
    now = server_time()
    forever = {"for ever": -1, "always": float("inf")}
    connection().zadd(key, {"old": now - 1, "new": now + 60, **forever})
    by_hand.add(job)
    by_hand.tell()
    assert set(connection().zrange(key, 0, -1)) == {
        one.encode() for one in ("new", "for ever", "always", job.id)
    }


def test_many_are_told_of_in_a_few_steps(
    by_hand: Collected, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    monkeypatch.setattr(collected, "script", lambda name: called.append(name) or script(name))
    for number in range(2 * AT_MOST + 1):
        by_hand.add(NewJob("default", "text", "text", SECONDS, id=f"no job {number}"))
    by_hand.tell()
    by_hand.tell()
    assert len(called) == 3


def test_a_full_memory_is_no_reason_to_keep_them(by_hand: Collected) -> None:
    jobs = [finished(), finished()]
    for job in jobs:
        by_hand.add(job)
    with full_memory():
        by_hand.tell()
    assert all(map(is_short, jobs))
    assert queue().count == 0


@pytest.mark.parametrize("status", ["queued", "started", "failed"])
def test_only_a_finished_job_goes(by_hand: Collected, status: str) -> None:
    """Whatever the collector has seen of it: meanwhile it may have been asked for again."""
    job = finished()
    connection().hset(Job.key_for(job.id), "status", status)
    by_hand.add(job)
    by_hand.tell()
    assert is_kept(job)

"""The threads of a web process enqueue in one round trip and collect their results in another."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from redis.exceptions import RedisError
from rq.results import Result

from inference import dispatch, exchange
from inference.exchange import Ended, Exchange, Lost, Refused
from tests.waiting import eventually
from workers import leases, queue
from workers.queue import Load, NewJob
from workers.wire import JSONSerializer

SECONDS = 30.0


@pytest.fixture
def asked(redis: None) -> Iterator[Callable[[NewJob], Future[Any]]]:
    """Asks in a thread of its own. Somebody is alive, but takes nothing."""
    leases.of_this_process("a test", [queue.QUEUE]).renew(anew=True)
    shared = Exchange()
    with ThreadPoolExecutor(64) as threads:
        yield lambda job: threads.submit(shared.ask, job)


def jobs(count: int) -> list[NewJob]:
    return [dispatch._job(f"text {number}", SECONDS) for number in range(count)]


def waiting() -> list[str]:
    return [entry.decode() for entry in queue.connection().lrange(queue.queue().key, 0, -1)]


def write(job: NewJob, value: Any, kind: Result.Type = Result.Type.SUCCESSFUL) -> None:
    """As a worker does."""
    result = Result(job.id, kind, queue.connection(), return_value=value, serializer=JSONSerializer)
    result.save(ttl=60)


def test_each_caller_gets_the_result_of_its_own_job(asked: Any) -> None:
    several = jobs(40)
    answers = [asked(job) for job in several]
    eventually(lambda: len(waiting()) == 40)
    for job in reversed(several):
        write(job, job.text)
    for job, answer in zip(several, answers, strict=True):
        ended = answer.result(SECONDS)
        assert isinstance(ended, Ended)
        result = Result.restore(job.id, "0-0", ended.fields, queue.connection(), JSONSerializer)
        assert result.return_value == job.text


def test_those_who_come_while_one_is_enqueued_go_together(
    asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    go_on = threading.Event()
    enqueue = queue.enqueue

    def slowly(batch: list[NewJob], bell: str | None) -> Load:
        sizes.append(len(batch))
        assert go_on.wait(SECONDS)
        return enqueue(batch, bell)

    monkeypatch.setattr(queue, "enqueue", slowly)
    first, *others = jobs(30)
    answers = [asked(first)]
    eventually(lambda: sizes)
    answers += [asked(job) for job in others]
    eventually(lambda: sum(answer.running() for answer in answers) == 30)
    go_on.set()
    eventually(lambda: len(waiting()) == 30)
    for job in (first, *others):
        write(job, 1)
    assert all(isinstance(answer.result(SECONDS), Ended) for answer in answers)
    assert sizes[0] == 1
    assert len(sizes) < 10


def test_one_who_comes_while_the_collector_waits_is_heard(
    asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "WATCH", 1000 * 1000)  # longer than this test may take
    first, second = jobs(2)
    asked_first = asked(first)
    eventually(lambda: queue.connection().info("clients")["blocked_clients"])
    asked_second = asked(second)
    eventually(lambda: len(waiting()) == 2)
    write(second, 2)
    assert isinstance(asked_second.result(SECONDS), Ended)
    assert not asked_first.done()
    write(first, 1)
    assert isinstance(asked_first.result(SECONDS), Ended)


def test_a_retry_is_not_the_end(asked: Any) -> None:
    [job] = jobs(1)
    answer = asked(job)
    eventually(waiting)
    write(job, None, Result.Type.RETRIED)
    write(job, "done")
    assert answer.result(SECONDS).fields[b"type"] == b"1"


def test_there_is_room_for_the_first_ones(redis: None, settings: Any) -> None:
    settings.VELO_MAX_QUEUE = 3
    leases.of_this_process("a test", [queue.QUEUE]).renew(anew=True)
    several = jobs(5)
    assert queue.enqueue(several) == Load(waiting=0, workers=1, admitted=3)
    assert waiting() == [job.id for job in several[:3]]
    assert queue.enqueue(several[3:]) == Load(waiting=3, workers=1, admitted=0)


def test_who_finds_no_room_is_told(asked: Any, settings: Any) -> None:
    settings.VELO_MAX_QUEUE = 1
    first, second = jobs(2)
    asked(first)
    eventually(waiting)
    assert asked(second).result(SECONDS) == Refused(Load(waiting=1, workers=1, admitted=0))
    write(first, 1)


def test_who_gives_up_leaves_nothing_behind(redis: None) -> None:
    leases.of_this_process("a test", [queue.QUEUE]).renew(anew=True)
    shared = Exchange()
    assert shared.ask(dispatch._job("text", 0.01)) is None
    assert not shared._open
    [job] = jobs(1)
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(shared.ask, job)
        eventually(lambda: job.id in waiting())
        write(job, 1)
        assert isinstance(answer.result(SECONDS), Ended)


def gone(*args: Any, **kwargs: Any) -> Any:
    raise RedisError("gone")


def test_while_redis_is_away_who_comes_is_refused_at_once_and_later_served(
    asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(queue, "enqueue", gone)
        patched.setattr(type(queue.connection()), "ping", gone)
        for answer in [asked(job) for job in jobs(3)]:
            with pytest.raises(RedisError, match="gone"):
                answer.result(SECONDS)

    def served() -> bool:
        [job] = jobs(1)
        answer = asked(job)
        eventually(lambda: answer.done() or job.id in waiting())
        if answer.done():
            return False  # nobody has noticed yet that it is back
        write(job, 1)
        return isinstance(answer.result(SECONDS), Ended)

    eventually(served)


def test_who_waits_while_redis_is_away_is_answered_when_it_is_back(
    asked: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    [job] = jobs(1)
    with monkeypatch.context() as patched:
        patched.setattr(type(queue.connection()), "xread", gone)
        answer = asked(job)
        eventually(lambda: "can't be collected: gone" in caplog.text)
        assert not answer.done()
    write(job, 1)
    assert isinstance(answer.result(SECONDS), Ended)
    assert caplog.text.count("can't be collected") == 1


def test_a_job_that_redis_has_lost_is_enqueued_again_but_once(asked: Any) -> None:
    several = jobs(2)
    answers = [asked(job) for job in several]
    for _ in range(2):
        eventually(lambda: len(waiting()) == 2)
        queue.connection().flushall()
        leases.of_this_process("a test", [queue.QUEUE]).renew(anew=True)
    assert [answer.result(SECONDS) for answer in answers] == [Lost(), Lost()]

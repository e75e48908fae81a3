"""The threads of a web process enqueue in one round trip and collect their results in another."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from redis.exceptions import RedisError
from rq.job import Job
from rq.results import Result

from inference import exchange
from inference.asking import new_job
from inference.exchange import Exchange
from inference.waiting import Ended, Lost, Refused, Stranded
from tests import answering
from tests.jobs import live
from tests.waiting import eventually
from workers.broker.connection import connection, queue
from workers.broker.enqueue import Admission, Load, NewJob, Verdict, enqueue
from workers.broker.wire import JSONSerializer

SECONDS = 30.0
LABEL, OTHER = "m@1", "m@2"
NO_ROOM = Verdict(Admission.NO_ROOM)


@pytest.fixture
def shared(redis: None) -> Iterator[Exchange]:
    """One of the test's own, whose threads end with it."""
    opened = Exchange()
    yield opened
    opened.close()
    assert not {thread.name for thread in opened._threads if thread.is_alive()}


def ask_one(shared: Exchange, job: NewJob, elsewhere: Callable[[], bool] | None = None) -> Any:
    [outcome] = shared.ask([job], elsewhere)
    return outcome


@pytest.fixture
def asked(shared: Exchange) -> Iterator[Callable[[NewJob], Future[Any]]]:
    """Asks in a thread of its own. Somebody is alive, but takes nothing."""
    live("a test", LABEL)
    with ThreadPoolExecutor(64) as threads:

        def ask(job: NewJob) -> Future[Any]:
            return threads.submit(ask_one, shared, job)

        ask.exchange = shared  # type: ignore[attr-defined]
        yield ask


def jobs(count: int, label: str = LABEL) -> list[NewJob]:
    return [new_job(label, f"text {number}", SECONDS) for number in range(count)]


def test_each_caller_gets_the_result_of_its_own_job(asked: Any) -> None:
    several = jobs(40)
    answers = [asked(job) for job in several]
    eventually(lambda: len(answering.waiting(LABEL)) == 40)
    for job in reversed(several):
        answering.write(job.id, job.input)
    for job, answer in zip(several, answers, strict=True):
        ended = answer.result(SECONDS)
        assert isinstance(ended, Ended)
        result = Result.restore(job.id, "0-0", ended.fields, connection(), JSONSerializer)
        assert result.return_value == job.input


def test_those_who_come_while_one_is_enqueued_go_together(
    asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    go_on = threading.Event()
    admit = enqueue

    def slowly(name: str, batch: list[NewJob], *further: Any) -> Load:
        sizes.append(len(batch))
        assert go_on.wait(SECONDS)
        return admit(name, batch, *further)

    monkeypatch.setattr("inference.exchange.enqueue", slowly)
    first, *others = jobs(30)
    answers = [asked(first)]
    eventually(lambda: sizes)
    answers += [asked(job) for job in others]
    eventually(lambda: sum(answer.running() for answer in answers) == 30)
    go_on.set()
    eventually(lambda: len(answering.waiting(LABEL)) == 30)
    for job in (first, *others):
        answering.write(job.id, 1)
    assert all(isinstance(answer.result(SECONDS), Ended) for answer in answers)
    assert sizes[0] == 1
    assert len(sizes) < 10


def test_a_large_request_without_room_keeps_no_small_one_out(
    shared: Exchange, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VELO_MAX_QUEUE = 4
    live("a test", LABEL)
    began, go_on = threading.Event(), threading.Event()
    admit = enqueue

    def slowly(*of_it: Any) -> Load:
        began.set()
        assert go_on.wait(SECONDS)
        return admit(*of_it)

    monkeypatch.setattr("inference.exchange.enqueue", slowly)
    first, small, *large = jobs(6)
    with ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(ask_one, shared, first)]
        assert began.wait(SECONDS)
        refused = threads.submit(shared.ask, large)
        eventually(lambda: shared._left.qsize() == 1)
        waiting.append(threads.submit(ask_one, shared, small))
        eventually(lambda: shared._left.qsize() == 2)
        go_on.set()
        assert {type(outcome) for outcome in refused.result(SECONDS)} == {Refused}
        eventually(lambda: len(answering.waiting(LABEL)) == 2 or waiting[1].done())
        for job in (first, small):
            answering.write(job.id, 1)
        assert all(isinstance(answer.result(SECONDS), Ended) for answer in waiting)


def test_a_request_is_over_when_one_of_its_jobs_has_failed(shared: Exchange) -> None:
    live("a test", LABEL)
    several = jobs(2)
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(shared.ask, several)
        eventually(lambda: len(answering.waiting(LABEL)) == 2)
        answering.write(several[0].id, None, Result.Type.FAILED)
        failed, unknown = answer.result(SECONDS / 2)  # long before their time is over
    assert isinstance(failed, Ended)
    assert not failed.succeeded
    assert unknown is None


def test_one_who_comes_while_the_collector_waits_is_heard(
    asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "WATCH", 1000 * 1000)  # longer than this test may take
    first, second = jobs(2)
    asked_first = asked(first)
    eventually(lambda: connection().info("clients")["blocked_clients"])
    asked_second = asked(second)
    eventually(lambda: len(answering.waiting(LABEL)) == 2)
    answering.write(second.id, 2)
    assert isinstance(asked_second.result(SECONDS), Ended)
    assert not asked_first.done()
    answering.write(first.id, 1)
    assert isinstance(asked_first.result(SECONDS), Ended)


class Overtaken(Exchange):
    """Its collector ends a look each time that the enqueuer has seen what is looked at."""

    looks = 0
    seen: frozenset[str] | None = None

    @property
    def _watched(self) -> frozenset[str] | None:
        watched, self.seen = self.seen, None
        self.looks += watched is not None
        return watched

    @_watched.setter
    def _watched(self, value: frozenset[str] | None) -> None:
        self.seen = value


def test_the_collector_may_end_its_look_while_one_is_enqueued(redis: None) -> None:
    live("a test", LABEL)
    several = jobs(60)
    with closing(Overtaken()) as overtaken, ThreadPoolExecutor(len(several)) as threads:
        answers: list[Future[Any]] = []
        while not overtaken.looks:  # until one comes while the collector looks
            answers.append(threads.submit(ask_one, overtaken, several[len(answers)]))
            eventually(lambda: len(answering.waiting(LABEL)) == len(answers) or answers[-1].done())
        for job in several[: len(answers)]:
            answering.write(job.id, 1)
        assert all(isinstance(answer.result(SECONDS), Ended) for answer in answers)


def test_a_retry_is_not_the_end(asked: Any) -> None:
    [job] = jobs(1)
    answer = asked(job)
    eventually(lambda: answering.waiting(LABEL))
    answering.write(job.id, None, Result.Type.RETRIED)
    answering.write(job.id, "done")
    assert answer.result(SECONDS).fields[b"type"] == b"1"


def test_there_is_room_for_the_first_ones(redis: None, settings: Any) -> None:
    settings.VELO_MAX_QUEUE = 3
    live("a test", LABEL)
    several = jobs(5)
    assert enqueue(LABEL, several) == Load(waiting=0, workers=1, admitted=3)
    assert answering.waiting(LABEL) == [job.id for job in several[:3]]
    assert enqueue(LABEL, several[3:]) == Load(waiting=3, workers=1, admitted=0)


def test_who_finds_no_room_is_told(asked: Any, settings: Any) -> None:
    settings.VELO_MAX_QUEUE = 1
    first, second = jobs(2)
    asked(first)
    eventually(lambda: answering.waiting(LABEL))
    assert asked(second).result(SECONDS) == Refused(Load(waiting=1, workers=1, admitted=0), NO_ROOM)
    answering.write(first.id, 1)


def test_who_gives_up_leaves_nothing_behind(shared: Exchange) -> None:
    live("a test", LABEL)
    assert ask_one(shared, new_job(LABEL, "text", 0.01)) is None
    assert not shared._open
    [job] = jobs(1)
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(ask_one, shared, job)
        eventually(lambda: job.id in answering.waiting(LABEL))
        answering.write(job.id, 1)
        assert isinstance(answer.result(SECONDS), Ended)


def gone(*args: Any, **kwargs: Any) -> Any:
    raise RedisError("gone")


def test_while_redis_is_away_who_comes_is_refused_at_once_and_later_served(
    asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("inference.exchange.enqueue", gone)
        patched.setattr(type(connection()), "ping", gone)
        for answer in [asked(job) for job in jobs(3)]:
            with pytest.raises(RedisError, match="gone"):
                answer.result(SECONDS)

    def served() -> bool:
        [job] = jobs(1)
        answer = asked(job)
        eventually(lambda: answer.done() or job.id in answering.waiting(LABEL))
        if answer.done():
            return False  # nobody has noticed yet that it is back
        answering.write(job.id, 1)
        return isinstance(answer.result(SECONDS), Ended)

    eventually(served)


class BackNow(Exchange):
    """Redis comes back as soon as a caller has seen that it is away."""

    error: RedisError | None = None

    @property
    def _away(self) -> RedisError | None:
        error, self.error = self.error, None
        return error

    @_away.setter
    def _away(self, value: RedisError | None) -> None:
        self.error = value


def test_redis_may_come_back_while_one_is_refused(redis: None) -> None:
    with closing(BackNow()) as opened:
        opened.error = RedisError("gone")
        with pytest.raises(RedisError, match="gone"):
            opened.ask(jobs(1))


def test_who_waits_while_redis_is_away_is_answered_when_it_is_back(
    asked: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    [job] = jobs(1)
    with monkeypatch.context() as patched:
        patched.setattr(type(connection()), "xread", gone)
        answer = asked(job)
        eventually(lambda: "can't be collected: gone" in caplog.text)
        assert not answer.done()
    answering.write(job.id, 1)
    assert isinstance(answer.result(SECONDS), Ended)
    assert caplog.text.count("can't be collected") == 1


def test_a_job_that_redis_has_lost_is_enqueued_again_but_once(asked: Any) -> None:
    several = jobs(2)
    answers = [asked(job) for job in several]
    for _ in range(2):
        eventually(lambda: len(answering.waiting(LABEL)) == 2)
        connection().flushall()
        live("a test", LABEL)
    assert [answer.result(SECONDS) for answer in answers] == [Lost(), Lost()]


# --- several versions -------------------------------------------------------------------------


def serve(label: str, worker: str = "another") -> None:
    live(worker, label)


def test_jobs_for_several_versions_go_to_their_queues(asked: Any) -> None:
    serve(OTHER)
    several = [*jobs(10), *jobs(10, OTHER)]
    answers = [asked(job) for job in several]
    eventually(lambda: len(answering.waiting(LABEL)) == len(answering.waiting(OTHER)) == 10)
    for job in several:
        answering.write(job.id, job.queue)
    assert all(isinstance(answer.result(SECONDS), Ended) for answer in answers)


def test_one_version_without_workers_harms_nobody_elses_request(asked: Any) -> None:
    [good], [bad] = jobs(1), jobs(1, OTHER)
    answers = [asked(bad), asked(good)]
    assert answers[0].result(SECONDS) == Refused(Load(waiting=0, workers=0, admitted=0), NO_ROOM)
    eventually(lambda: answering.waiting(LABEL))
    answering.write(good.id, 1)
    assert isinstance(answers[1].result(SECONDS), Ended)


def copy(number: int) -> NewJob:
    return NewJob(OTHER, "text", "shadow: text", SECONDS, compare={"to": LABEL, "output": number})


def test_copies_are_sent_as_long_as_there_is_room(shared: Exchange) -> None:
    serve(OTHER)
    for number in range(exchange.COPIES + 10):
        shared.send(copy(number))
    eventually(lambda: len(answering.waiting(OTHER)) == exchange.COPIES)
    assert not shared._open
    outputs = [answering.arguments(job_id)[1]["output"] for job_id in answering.waiting(OTHER)]
    assert outputs == list(range(exchange.COPIES))


def test_who_waits_goes_before_the_copies(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    go_on = threading.Event()
    admit = enqueue

    def slowly(name: str, *further: Any) -> Load:
        order.append(name)
        assert go_on.wait(SECONDS)
        return admit(name, *further)

    monkeypatch.setattr("inference.exchange.enqueue", slowly)
    serve(OTHER)
    first, second = jobs(2)
    answers = [asked(first)]
    eventually(lambda: order)
    asked.exchange.send(copy(1))
    answers.append(asked(second))
    eventually(lambda: len(asked.exchange._open) == 2)
    go_on.set()
    eventually(lambda: answering.waiting(OTHER))
    assert order == [LABEL, LABEL, OTHER]
    for job in (first, second):
        answering.write(job.id, 1)
    assert all(isinstance(answer.result(SECONDS), Ended) for answer in answers)


def test_a_job_whose_version_has_gone_comes_back_if_there_is_another(shared: Exchange) -> None:
    serve(LABEL)
    movable, pinned, alone, started = jobs(4)
    with ThreadPoolExecutor(4) as threads:
        moved = threads.submit(ask_one, shared, movable, lambda: True)
        others = [
            threads.submit(ask_one, shared, pinned),
            threads.submit(ask_one, shared, alone, lambda: False),
            threads.submit(ask_one, shared, started, lambda: True),
        ]
        eventually(lambda: len(answering.waiting(LABEL)) == 4)
        key = Job.key_for(started.id)
        connection().hset(key, "status", "started")
        connection().lrem(queue(LABEL).key, 1, started.id)
        connection().hset(Job.key_for(movable.id), "crashes", 1)
        answering.leave("another")
        assert moved.result(SECONDS) == Stranded(crashes=1)
        assert not connection().exists(Job.key_for(movable.id))
        assert set(answering.waiting(LABEL)) == {pinned.id, alone.id}
        for job in (pinned, alone, started):
            answering.write(job.id, 1)
        assert all(isinstance(answer.result(SECONDS), Ended) for answer in others)

"""What waits is taken and answered together, and Redis looks as if stock RQ had done it."""

import json
import re
from typing import Any

import pytest
from rq import Callback, Retry, SimpleWorker
from rq.job import Job, JobStatus

from tests.jobs import claim, enqueue, live
from tests.letters import Letters, answer, work
from tests.waiting import eventually
from workers import jobs
from workers.broker import claims
from workers.broker import enqueue as broker
from workers.broker.connection import connection, queue, script
from workers.broker.enqueue import NewJob
from workers.broker.names import QUEUE
from workers.broker.wire import JSONSerializer
from workers.metrics.latency import Recorder
from workers.models import Worker
from workers.runtime.runner import Runner
from workers.runtime.worker import InferenceWorker
from workers.values.figures import BatchFigures

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db(transaction=True)]


@pytest.fixture
def model(letters: Letters) -> Letters:
    return letters


def test_what_waits_is_one_model_call_and_each_gets_its_own_answer(model: Letters) -> None:
    texts = [f"text {number}" + "!" * (number % 2) for number in range(32)]
    enqueued = [enqueue(text) for text in texts]
    worker = work()
    assert model.calls == [32]
    assert [answer(job) for job in enqueued] == texts
    assert worker.done == 32


def test_a_batch_costs_two_round_trips(model: Letters, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(64):
        enqueue(f"text {number}")
    called: list[str] = []
    monkeypatch.setattr(claims, "script", lambda name: called.append(name) or script(name))
    work()
    assert model.calls == [32, 32]
    assert called.count("finish") == 2
    assert called.count("claim") <= 5  # also before it has a lease, and when nothing is left


def test_only_the_culprits_fail(model: Letters, settings: Any) -> None:
    settings.VELO_RETRY_MAX = 0
    texts = [f"bad {n}" if n in (3, 17) else f"good {n}" for n in range(32)]
    enqueued = [enqueue(text) for text in texts]
    worker = work()
    for text, job in zip(texts, enqueued, strict=True):
        if "bad" in text:
            assert job.get_status() == JobStatus.FAILED
            assert "ValueError: bad" in str(job.latest_result().exc_string)
        else:
            assert answer(job) == text
    assert (worker.done, worker.failed) == (30, 2)
    assert len(model.calls) <= 1 + 2 * 2 * 5  # halves, down to two culprits among 32


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_text_whose_numbers_are_none_fails_alone(
    model: Letters, settings: Any, monkeypatch: pytest.MonkeyPatch, number: float
) -> None:
    settings.VELO_RETRY_MAX = 0
    predict = model.predict

    def overflowing(batch: Any) -> Any:
        vectors = predict(batch)
        return [[number] if one.ids == "huge" else v for one, v in zip(batch, vectors, strict=True)]

    monkeypatch.setattr(model, "predict", overflowing)
    good, huge = enqueue("good"), enqueue("huge")
    work()
    assert answer(good) == "good"
    assert huge.get_status() == JobStatus.FAILED
    assert "NotFinite" in str(huge.latest_result().exc_string)


def test_the_next_batch_is_claimed_and_encoded_while_the_model_computes(
    model: Letters, settings: Any
) -> None:
    settings.VELO_BATCH_MAX = 2
    enqueued = [enqueue(text) for text in ("one", "two", "six", "ten")]

    def seen() -> None:
        """In the first call, before it ends."""
        model.before = lambda: None
        eventually(lambda: [job.get_status() for job in enqueued] == [JobStatus.STARTED] * 4)

    model.before = seen
    work()
    assert model.calls == [2, 2]
    assert [answer(job) for job in enqueued] == ["one", "two", "six", "ten"]


def test_a_worker_that_is_told_to_stop_claims_nothing_ahead(model: Letters, settings: Any) -> None:
    settings.VELO_BATCH_MAX = 2
    enqueued = [enqueue(text) for text in ("one", "two", "six", "ten")]
    worker = InferenceWorker([queue()], connection=connection())
    model.before = worker._shutdown
    enqueue_more = [enqueue("more"), enqueue("most")]
    worker.work(burst=True)
    statuses = [job.get_status() for job in (*enqueued, *enqueue_more)]
    # What was claimed before the word came is finished, the rest stays where it is.
    assert statuses == [JobStatus.FINISHED] * 4 + [JobStatus.QUEUED] * 2
    assert model.calls == [2, 2]


def test_the_figures_of_batches_add_up(model: Letters) -> None:
    for text in ("a", "a", "aaaa"):
        enqueue(text)
    model.call_tokens = 100
    worker = work()
    row = Worker.objects.get(pk=worker.name)
    figures = BatchFigures(row.batches)
    assert (figures.count, figures.mean_size) == (1, 3)
    assert figures.padding == pytest.approx(1 - 6 / 12)
    assert row.model_version.workers.batch_figures().to_json() == row.batches
    assert figures.ranges() == {"1": 0, "2": 0, "3-4": 1}


def test_a_text_that_cannot_be_encoded_fails_alone(model: Letters, settings: Any) -> None:
    settings.VELO_RETRY_MAX = 0
    good, unreadable = enqueue("good"), enqueue("unreadable")
    work()
    assert answer(good) == "good"
    assert unreadable.get_status() == JobStatus.FAILED


def test_as_many_outputs_as_texts_or_none_is_trusted(model: Letters, settings: Any) -> None:
    settings.VELO_RETRY_MAX = 0
    model.outputs_missing = 1
    enqueued = [enqueue(f"text {number}") for number in range(3)]
    work()
    for job in enqueued:
        assert job.get_status() == JobStatus.FAILED
        assert "WrongNumber" in str(job.latest_result().exc_string)


def test_queues_are_drained_in_order_of_priority(model: Letters) -> None:
    for name, text in (("low", "c"), ("high", "a"), ("low", "d"), ("high", "b")):
        queue(name).enqueue_call(jobs.INFER, args=(text,))
    claimed = claim("w", "high", "low", limit=3)
    assert [one.questions()[0].input for one in claimed] == ["a", "b", "c"]


def test_an_expired_job_is_skipped(model: Letters) -> None:
    gone, here = enqueue("gone"), enqueue("here")
    connection().delete(gone.key)
    assert work().done == 1
    assert answer(here) == "here"


def test_a_job_that_no_script_can_read_costs_the_others_nothing(model: Letters) -> None:
    before, bad, after = (enqueue(text) for text in ("before", "bad", "after"))
    connection().hset(bad.key, "timeout", 10**19)
    connection().rpush(queue().key, "no-job")
    connection().set(Job.key_for("no-job"), "a string")
    last = enqueue("last")
    work()
    assert [answer(job) for job in (before, after, last)] == ["before", "after", "last"]


def test_a_call_that_is_made_again_lets_in_what_it_let_in_before(settings: Any) -> None:
    settings.VELO_MAX_QUEUE = 2
    live("a test")
    jobs_at_once = [NewJob(QUEUE, text, text, 30) for text in "abc"]
    assert broker.enqueue(QUEUE, jobs_at_once).admitted == 2
    assert broker.enqueue(QUEUE, jobs_at_once).admitted == 2
    assert queue().count == 2


def test_suspects_run_alone(model: Letters) -> None:
    enqueued = [enqueue(text) for text in "abcdef"]
    for job in enqueued[1:4:2]:
        connection().hset(job.key, "crashes", 1)
    work()
    assert model.calls == [1, 1, 1, 1, 2]
    assert [answer(job) for job in enqueued] == list("abcdef")


def test_a_job_given_to_another_worker_cannot_be_answered_by_the_first(model: Letters) -> None:
    job = enqueue("text")
    [first] = claim("first")
    assert claims.put_back(connection(), "first", [first.execution_key]) == 1
    assert job.get_status() == JobStatus.QUEUED
    [second] = claim("second")
    late = claims.Answer(first, {"output": []}, 60)
    assert claims.finish(connection(), "first", [late], 0.1) == [claims.FENCED]
    assert job.get_status() == JobStatus.STARTED
    right = claims.Answer(second, {"output": [97.0]}, 60)
    assert claims.finish(connection(), "second", [right], 0.1) == [claims.WRITTEN]
    assert answer(job) == "a"
    assert len(job.results()) == 1


def test_an_answer_counts_once() -> None:
    """Also when its writer didn't hear that it was written, and writes it again."""
    job = enqueue("text")
    [claimed] = claim("w")
    answer_of_w = claims.Answer(claimed, {"output": [97.0]}, 60)
    assert claims.finish(connection(), "w", [answer_of_w], 0.1) == [claims.WRITTEN]
    assert claims.finish(connection(), "w", [answer_of_w], 0.1) == [claims.FENCED]
    assert len(job.results()) == 1


def test_an_answer_that_is_kept_for_ever_does_not_expire() -> None:
    job = enqueue("text")
    [claimed] = claim("w")
    claims.finish(connection(), "w", [claims.Answer(claimed, {"output": [97.0]}, -1)], 0.1)
    assert answer(job) == "a"
    assert connection().ttl(job.key) == connection().ttl(f"rq:results:{job.id}") == -1
    assert connection().zscore("rq:finished:default", job.id) == float("inf")


@pytest.mark.parametrize(
    "field",
    [
        *("success_callback_name", "failure_callback_name", "stopped_callback_name"),
        *("group_id", "webhooks", "repeats_left", "rate_limit_key"),
    ],
)
def test_a_job_that_asks_for_more_of_rq_is_not_plain(field: str) -> None:
    plain, other = enqueue("plain"), enqueue("other")
    connection().hset(other.key, field, "1")
    assert [(one.job_id, one.plain) for one in claim("w")] == [(plain.id, True), (other.id, False)]


def test_a_suspect_is_claimed_alone_or_holds_up_what_is_behind_it() -> None:
    first, suspect, last = (enqueue(text) for text in "abc")
    connection().hset(suspect.key, "crashes", 1)

    def claimed(suspects: bool) -> list[str]:
        return [one.job_id for one in claims.claim(connection(), "w", [queue()], 32, suspects)]

    live("w")
    assert claimed(True) == [first.id]
    assert claimed(False) == []
    assert queue().job_ids == [suspect.id, last.id]
    assert claimed(True) == [suspect.id]
    assert claimed(False) == [last.id]


def test_put_back_jobs_keep_their_order() -> None:
    enqueued = [enqueue(text) for text in "abcd"]
    claimed = claim("w", limit=3)
    claims.put_back(connection(), "w", [one.execution_key for one in claimed])
    assert queue().job_ids == [job.id for job in enqueued]


called: list[str] = []


def note_success(job: Job, connection: Any, result: Any) -> None:
    called.append(job.id)


def test_what_the_fast_path_does_not_cover_goes_rqs_way(model: Letters) -> None:
    """Callbacks, dependents, no result kept, other functions: all among plain ones."""
    called.clear()
    plain = [enqueue(f"plain {number}") for number in range(3)]
    with_callback = queue().enqueue_call(
        jobs.INFER, args=("callback",), on_success=Callback(note_success)
    )
    parent = enqueue("parent")
    child = queue().enqueue("operator.add", 2, 3, depends_on=parent)
    forgotten = queue().enqueue_call(jobs.INFER, args=("forgotten",), result_ttl=0)
    other = queue().enqueue("operator.add", 1, 1)
    worker = work()
    assert [answer(job) for job in plain] == ["plain 0", "plain 1", "plain 2"]
    assert (answer(with_callback), called) == ("callback", [with_callback.id])
    assert answer(parent) == "parent"
    assert child.return_value(refresh=True) == 5
    assert not Job.exists(forgotten.id, connection())
    assert other.return_value(refresh=True) == 2
    assert (worker.done, worker.failed) == (8, 0)


# --- field by field against stock RQ ------------------------------------------------------------


def dump() -> dict[str, Any]:
    """Every key that RQ keeps: its values, and whether it has a time to live."""
    redis = connection()
    found: dict[str, Any] = {}
    for key in sorted(redis.scan_iter("rq:*")):
        kind = redis.type(key).decode()
        read = {
            "hash": redis.hgetall,
            "zset": lambda key: redis.zrange(key, 0, -1, withscores=True),
            "set": redis.smembers,
            "list": lambda key: redis.lrange(key, 0, -1),
            "stream": redis.xrange,
            "string": redis.get,
        }[kind]
        found[key.decode()] = (kind, read(key), redis.ttl(key))
    return found


def normal(value: Any) -> Any:
    """Times, execution ids and stream ids by name; a number of seconds to the nearest five."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, dict):
        return {normal(k): normal(v) for k, v in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(normal(v) for v in value)
    if isinstance(value, list | tuple):
        return [normal(v) for v in value]
    if isinstance(value, float | int):
        return "TIME" if value > 1e9 else 5 * round(value / 5)
    value = re.sub(r"\b[0-9a-f]{32}\b", "EXECUTION", value)
    value = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", "TIME", value)
    value = re.sub(r"^\d\.\d+(e-\d+)?$|^0$", "SECONDS", value)
    value = re.sub(r"^\d{10}\.\d+$", "TIME", value)
    return re.sub(r"^\d{13}-\d+$", "STREAM-ID", value)


# The locks of RQ's own housekeeping, which is at another time.
OWN = re.compile(r"clean_registries|maintenance")


def states(run: Any, model: Letters) -> list[dict[str, Any]]:
    """All that RQ keeps while the job runs, and after it."""
    connection().flushall()
    seen: list[dict[str, Any]] = []
    model.before = lambda: seen.append(dump())
    queue().enqueue_call(
        jobs.INFER,
        args=("text",),
        job_id="job",
        result_ttl=60,
        timeout=20,
        ttl=30,
        description="d",
        meta={"enqueued": 1.0},
        retry=Retry(max=2, interval=[0, 1]),
    )
    run()
    seen.append(dump())
    return [{normal(k): normal(v) for k, v in state.items() if not OWN.search(k)} for state in seen]


def test_enqueue_writes_what_stock_rq_writes(settings: Any) -> None:
    """But for the fields that are empty."""

    def by_us() -> str:
        return enqueue("text").id

    def by_stock() -> str:
        return (
            queue()
            .enqueue_call(
                jobs.INFER,
                args=("text",),
                timeout=settings.VELO_JOB_TIMEOUT,
                retry=Retry(max=settings.VELO_RETRY_MAX, interval=settings.VELO_RETRY_INTERVALS),
                ttl=30,
                result_ttl=settings.VELO_RESULT_TTL,
                failure_ttl=settings.VELO_FAILURE_TTL,
                description="infer: text",
                meta={"enqueued": 1.0, "deadline": 31.0, "f4": 1},
            )
            .id
        )

    def written(put: Any) -> dict[str, Any]:
        connection().flushall()
        job_id = put()
        found = {normal(k).replace(job_id, "job"): normal(v) for k, v in dump().items()}
        fields = {name: value for name, value in found["rq:job:job"][1].items() if value}
        found["rq:job:job"][1] = fields | {"meta": sorted(json.loads(fields["meta"]))}
        found["rq:queue:default"][1] = [job_id == one for one in found["rq:queue:default"][1]]
        return found

    ours, theirs = written(by_us), written(by_stock)
    assert ours == theirs
    assert len(ours["rq:job:job"][1]) >= 13


def test_field_by_field_as_stock_rq_does_it(
    model: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stock(SimpleWorker):
        log_result_lifespan = False

    def stock() -> None:
        jobs.install(Runner(model, "w", Recorder()))
        queues = [queue(model.spec.label), queue()]
        Stock(queues, name="w", connection=connection(), serializer=JSONSerializer).work(burst=True)

    # The answers hold how long they took: here they may not differ.
    monkeypatch.setattr("workers.runtime.runner.time.perf_counter", lambda: 0.0)
    monkeypatch.setattr("workers.broker.deadlines.waited", lambda claimed, now: 0.0)
    by_stock = states(stock, model)
    by_us = states(lambda: work(name="w"), model)
    assert [sorted(state) for state in by_us] == [sorted(state) for state in by_stock]
    compared = 0
    for ours, theirs in zip(by_us, by_stock, strict=True):
        for key, value in theirs.items():
            assert ours[key] == value, key
            compared += len(value[1])
    assert compared >= 70

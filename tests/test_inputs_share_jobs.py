"""Inputs of a request share jobs: which do, what a worker answers, and what becomes of such a job
when one of its inputs fails, a worker dies, or a person takes a hand."""

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import numpy
import pytest
from rq.job import Job, JobStatus
from rq.registry import ScheduledJobRegistry
from rq.results import Result

from inference import timing
from inference.bundles import AT_MOST, LENGTH, bundles
from inference.choice import Target
from inference.dispatch import ask
from inference.errors import DeadlinePassed, InvalidInput, Poisonous
from inference.routing import routes
from tests.answering import (
    Refused,
    answering,
    arguments,
    leave,
    model,
    plan_of,
    prediction,
    publish,
    waiting,
    write,
)
from tests.jobs import admitted, claim, lease_lasts, live, register
from tests.letters import Letters, work
from tests.waiting import eventually
from workers.broker import claims, leases, steering
from workers.broker import enqueue as broker
from workers.broker.connection import connection, queue
from workers.broker.enqueue import READMIT, NewJob, promote_due, withdraw
from workers.broker.inspecting import Place, listed
from workers.broker.leases import Registration
from workers.broker.names import QUEUE
from workers.broker.rescue import HUNG, charge, rescue
from workers.broker.wire import JSONSerializer, apart, each, pack, together, unpack
from workers.runtime.intake import Intake
from workers.runtime.sheet import AnswerSheet

SECONDS = 30.0
A, LABEL = Target("a"), "a@1"


# --- which inputs share a job ---------------------------------------------------------------------


@pytest.mark.parametrize(("count", "workers"), [(1, 1), (7, 2), (32, 1), (32, 2), (1000, 3)])
def test_each_input_is_in_one_job_and_each_worker_has_its_share(count: int, workers: int) -> None:
    found = bundles(["text"] * count, workers)
    assert sorted(position for part in found for position in part) == list(range(count))
    assert max(map(len, found)) <= AT_MOST
    assert len(found) >= min(count, 2 * workers)
    assert max(map(len, found)) == max(1, min(AT_MOST, count // (2 * workers)))


def test_inputs_of_about_the_same_length_share_a_job() -> None:
    inputs = ["x" * length for length in (9, 1, 8, 2, 7, 3, 6, 4)]
    assert bundles(inputs, 1) == [[1, 3, 5, 7], [6, 4, 2, 0]]


def test_a_job_has_no_more_characters_than_a_step_may_take() -> None:
    inputs = ["x" * (LENGTH // 2)] * 8 + ["x" * LENGTH * 3, "y"]
    found = bundles(inputs, 1)
    assert [9, 0] in found or [9] in found
    assert [8] in found
    for part in found:
        assert len(part) == 1 or sum(len(inputs[position]) for position in part) <= LENGTH


def test_what_a_crash_has_met_is_alone() -> None:
    assert bundles(["a", "b", "c", "d", "e", "f", "g", "h"], 1, alone={1, 2}) == [
        [0],
        [1],
        [2],
        [3, 4, 5, 6],
        [7],
    ]


def test_a_job_is_no_larger_than_a_batch(settings: Any) -> None:
    settings.VELO_BATCH_MAX = 3
    assert max(map(len, bundles(["text"] * 100, 1))) == 3


def test_inputs_that_are_no_texts_share_no_job() -> None:
    pair = {"query": "q", "texts": ["t", "u"]}
    assert sorted(bundles([pair, "a", pair, "b", ["c"], "d", "e", "f"], 1)) == [
        [0],
        [1, 3, 5, 6],
        [2],
        [4],
        [7],
    ]


# --- the answer's form ----------------------------------------------------------------------------


@pytest.mark.parametrize("output", [numpy.arange(3, dtype="float32"), [0.5, 1.5], {"label": "x"}])
def test_answers_come_back_as_they_were(output: Any) -> None:
    answers = [{"output": output, "tokens": number} for number in range(3)]
    found = each(unpack(pack(together(answers))))
    assert found is not None
    assert [one["tokens"] for one in found] == [0, 1, 2]
    for one in found:
        numpy.testing.assert_equal(one["output"], output)


def test_the_answer_that_says_apart_has_no_answers() -> None:
    assert each(unpack(pack(apart(1)))) is None


def test_a_sheet_is_complete_when_each_place_is_filled() -> None:
    sheet = AnswerSheet(2)
    sheet.fill(1, {"output": "b"})
    assert not sheet.is_complete
    sheet.fill(0, {"output": "a"})
    assert sheet.is_complete
    assert sheet.value() == {"several": [{"output": "a"}, {"output": "b"}]}
    assert sheet.inputs_answered == 2
    sheet = AnswerSheet(2)
    sheet.fill(0, {"output": "a"})
    sheet.fill(1, None)
    assert sheet.value() == apart(0)
    assert sheet.inputs_answered == 0


# --- in Redis -------------------------------------------------------------------------------------


def let_in(inputs: list[str], most: int | None = None, **fields: Any) -> NewJob:
    several = len(inputs) > 1
    job = NewJob(QUEUE, inputs if several else inputs[0], "d", 30, several=several, **fields)
    with admitted():
        assert broker.enqueue(QUEUE, [job], most=most).admitted == 1
    return job


def status(job: NewJob) -> JobStatus:
    return Job.fetch(job.id, connection(), JSONSerializer).get_status()


def answer_of(job: NewJob) -> Any:
    return Job.fetch(job.id, connection(), JSONSerializer).return_value()


def texts(claimed: claims.Claim) -> list[Any]:
    return [one.input for one in claimed.questions()]


@pytest.mark.usefixtures("redis")
class TestInRedis:
    def test_a_queue_is_as_long_as_inputs_wait(self, settings: Any) -> None:
        settings.VELO_MAX_QUEUE = 6
        job = let_in(["a", "b", "c"])
        assert queue().count == 3
        more = NewJob(QUEUE, ["d"] * 4, "d", 30, several=True)
        with admitted():
            assert broker.enqueue(QUEUE, [more]).admitted == 0
        let_in(["d", "e", "f"])
        assert queue().count == 6
        assert listed(QUEUE, Place.QUEUED, 0, 10)[0] == job.id
        assert len(listed(QUEUE, Place.QUEUED, 0, 10)) == 2

    def test_it_is_let_in_once_though_it_is_sent_twice(self) -> None:
        job = let_in(["a", "b", "c"])
        with admitted():
            assert broker.enqueue(QUEUE, [job]).admitted == 1
        assert queue().count == 3

    def test_it_is_claimed_whole_and_once(self) -> None:
        let_in(["a", "b", "c"])
        let_in(["d"])
        let_in(["e", "f"])
        live("w")
        [first] = claims.claim(connection(), "w", [queue()], 2)
        assert texts(first) == ["a", "b", "c"]
        assert first.inputs == 3
        assert [question.place for question in first.questions()] == [0, 1, 2]
        assert queue().count == 3
        found = claims.claim(connection(), "w", [queue()], 32, extra=2)
        assert [texts(one) for one in found] == [["d"], ["e", "f"]]
        assert queue().count == 0

    def test_a_limit_counts_inputs(self) -> None:
        for _ in range(4):
            let_in(["a", "b", "c"])
        live("w")
        assert len(claims.claim(connection(), "w", [queue()], 6)) == 2
        assert queue().count == 6

    def test_a_share_counts_inputs(self) -> None:
        for _ in range(8):
            let_in(["a", "b"])
        for worker in ("w0", "w1", "w2", "w3"):
            live(worker)
        # Of 16 inputs a worker's share is 4: half of it first, the rest ahead.
        first = claims.claim(connection(), "w1", [queue()], 32)
        assert [one.inputs for one in first] == [2]
        ahead = claims.claim(connection(), "w1", [queue()], 32, suspects=False, extra=1)
        assert [one.inputs for one in ahead] == [2]
        assert claims.claim(connection(), "w1", [queue()], 32, suspects=False, extra=2) == []

    def test_an_intake_says_how_many_inputs_it_has_in_hand(self) -> None:
        for _ in range(8):
            let_in(["a", "b"])
        for worker in ("w", "w1", "w2", "w3"):
            live(worker)
        intake = Intake(connection(), "w", lambda: [QUEUE])
        first = intake.claim(32)
        ahead = intake.claim(32, suspects=False)
        assert [len(first), len(ahead)] == [1, 1]
        assert intake.claim(32, suspects=False) == []
        intake.release(first)

    def test_who_is_alone_claims_the_next_batch_ahead(self) -> None:
        """What it has in hand counts as often in the share as in what it has of it."""
        for _ in range(6):
            let_in(["x"] * 16)
        live("w")
        assert len(claims.claim(connection(), "w", [queue()], 32)) == 2
        assert len(claims.claim(connection(), "w", [queue()], 32, suspects=False, extra=30)) == 2

    def test_a_suspect_with_several_inputs_is_claimed_once(self) -> None:
        job = let_in(["a", "b", "c"])
        connection().hset(f"rq:job:{job.id}", "crashes", 1)
        let_in(["d"])
        live("w")
        [found] = claims.claim(connection(), "w", [queue()], 32)
        assert found.suspect
        assert queue().count == 1

    def test_what_was_let_in_before_passes_a_full_queue(self, settings: Any) -> None:
        settings.VELO_MAX_QUEUE = 2
        waits = let_in(["a", "b"])
        again = let_in(["c"], most=READMIT)
        assert queue().job_ids == [again.id, waits.id, waits.id]

    def test_what_was_let_in_before_waits_for_a_worker(self) -> None:
        job = NewJob(QUEUE, "a", "d", 30)
        assert broker.enqueue(QUEUE, [job]).admitted == 0
        assert broker.enqueue(QUEUE, [job], most=READMIT).admitted == 1
        assert queue().job_ids == [job.id]

    def test_it_is_withdrawn_whole(self) -> None:
        let_in(["a"])
        job = let_in(["b", "c"])
        let_in(["d"])
        assert withdraw([job]) == [0]
        assert queue().count == 2
        assert not Job.exists(job.id, connection())

    def test_a_worker_puts_it_back_as_it_was(self) -> None:
        job, last = let_in(["a", "b"]), let_in(["c"])
        [claimed] = claim("w", limit=2)
        assert claims.put_back(connection(), "w", [claimed.execution_key]) == 1
        assert queue().job_ids == [job.id, job.id, last.id]
        assert status(job) is JobStatus.QUEUED

    def test_where_its_worker_dies_its_inputs_are_asked_apart(self, settings: Any) -> None:
        job, single = let_in(["a", "b"]), let_in(["c"])
        assert len(claim("w")) == 2
        lease_lasts("w", -0.1)
        [loss] = rescue()
        assert (loss.rescued, loss.failed) == (2, 0)
        assert status(job) is JobStatus.FINISHED
        assert answer_of(job) == apart(crashes=1)
        assert 0 < connection().ttl(f"rq:job:{job.id}") <= settings.VELO_RESULT_TTL
        assert queue().job_ids == [single.id]
        assert connection().zcard(f"rq:wip:{QUEUE}") == 0

    def test_where_a_call_hangs_its_inputs_are_asked_apart(self) -> None:
        job = let_in(["a", "b"])
        [claimed] = claim("w")
        assert charge("w", [claimed.execution_key], HUNG) == (1, 0)
        assert answer_of(job) == apart(crashes=1)
        late = claims.Answer(claimed, {"several": []}, 60)
        assert claims.finish(connection(), "w", [late], 0.1) == [claims.FENCED]

    def test_one_that_is_due_again_waits_with_all_its_inputs(self) -> None:
        job = let_in(["a", "b", "c"])
        connection().delete(queue().key)
        Job.fetch(job.id, connection(), JSONSerializer).set_status(JobStatus.SCHEDULED)
        connection().zadd(ScheduledJobRegistry(queue=queue()).key, {job.id: 1})
        promote_due(queue())
        assert queue().job_ids == [job.id] * 3

    def test_one_that_is_requeued_waits_with_all_its_inputs(self) -> None:
        job = let_in(["a", "b", "c"])
        assert steering.cancel(QUEUE, [job.id]) == [job.id]
        assert queue().count == 0
        assert status(job) is JobStatus.CANCELED
        assert steering.requeue(QUEUE, [job.id]) == [job.id]
        assert queue().job_ids == [job.id] * 3

    def test_one_that_is_deleted_leaves_nothing(self) -> None:
        job, other = let_in(["a", "b", "c"]), let_in(["d"])
        assert steering.delete(QUEUE, [job.id]) == [job.id]
        assert queue().job_ids == [other.id]

    def test_an_emptied_queue_counts_inputs(self) -> None:
        job = let_in(["a", "b", "c"])
        let_in(["d"])
        assert steering.empty(QUEUE) == 4
        assert queue().count == 0
        assert not Job.exists(job.id, connection())


# --- a worker -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("redis")
@pytest.mark.django_db(transaction=True)
class TestAWorker:
    def read(self, job: NewJob) -> list[str]:
        answers = each(answer_of(job))
        assert answers is not None
        return ["".join(chr(int(number)) for number in one["output"]) for one in answers]

    def test_answers_each_input_in_its_place(self, letters: Letters) -> None:
        jobs = [let_in(["one", "three", "fifteen"]), let_in(["a"]), let_in(["be", "do"])]
        worker = work()
        assert self.read(jobs[0]) == ["one", "three", "fifteen"]
        assert self.read(jobs[2]) == ["be", "do"]
        assert letters.calls == [6]
        assert worker.done == 6

    def test_answers_when_the_last_of_several_calls_is_over(
        self, letters: Letters, settings: Any
    ) -> None:
        settings.VELO_BATCH_MAX = 2
        job = let_in(["fifteen", "a", "three", "be", "six"])
        work()
        assert letters.calls == [1, 2, 2]
        assert self.read(job) == ["fifteen", "a", "three", "be", "six"]

    @pytest.mark.parametrize(
        ("bad", "parameters"), [("bad", {}), ("unreadable", {}), ("long", {"truncate": False})]
    )
    def test_says_that_they_are_to_be_asked_apart_where_an_input_fails(
        self, letters: Letters, bad: str, parameters: Any
    ) -> None:
        job = let_in(["good", bad, "better"], parameters=parameters)
        other = let_in(["a", "b"])
        worker = work()
        assert answer_of(job) == apart(crashes=0)
        assert status(job) is JobStatus.FINISHED
        assert self.read(other) == ["a", "b"]
        assert (worker.done, worker.failed) == (2, 0)

    def test_answers_what_takes_no_model_call(self, letters: Letters) -> None:
        job = let_in(["ab", "cd"], parameters={"output": "tokens"})
        work()
        assert self.read(job) == ["ab", "cd"]
        assert letters.calls == []


# --- a request ------------------------------------------------------------------------------------


@pytest.fixture
def failed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Labels of versions that failed, instead of the database."""
    found: list[str] = []
    monkeypatch.setattr(timing, "record_failure", found.append)
    return found


@pytest.mark.usefixtures("redis", "failed")
class TestARequest:
    @pytest.fixture(autouse=True)
    def one_model(self, redis: None) -> None:
        publish(plan_of(model("a", "1", active="1")), {"w": [LABEL]})

    @pytest.fixture
    def thread(self) -> Iterator[ThreadPoolExecutor]:
        with ThreadPoolExecutor(2) as threads:
            yield threads

    def request(self, thread: ThreadPoolExecutor, count: int = 8, **more: Any) -> Any:
        """A request of one-letter texts that waits, and its two jobs."""
        inputs = [chr(ord("a") + number) for number in range(count)]
        waits: Future[Any] = thread.submit(ask, A, inputs, more.get("seconds", SECONDS))
        eventually(lambda: len(waiting(LABEL)) == count)
        first, second = dict.fromkeys(waiting(LABEL))
        return inputs, waits, first, second

    def take(self, *ids: str) -> None:
        for job_id in ids:
            connection().lrem(queue(LABEL).key, 0, job_id)

    def test_is_answered_in_the_order_of_its_inputs(self) -> None:
        inputs = ["x" * (number * 7 % 50 + 1) + str(number) for number in range(300)]
        with answering([LABEL], lambda label, data: data) as got:
            found = ask(A, inputs, SECONDS)
        assert [one.output for one in found] == inputs
        assert len(got) == -(-300 // AT_MOST)

    def test_asks_each_input_alone_where_some_failed_together(
        self, thread: ThreadPoolExecutor, settings: Any
    ) -> None:
        inputs, waits, first, second = self.request(thread)
        settings.VELO_MAX_QUEUE = 1  # they were let in, and need no room again
        self.take(first, second)
        write(first, apart(crashes=0))
        write(second, self.answers("efgh"))
        ids = eventually(lambda: len(found := waiting(LABEL)) == 4 and found)
        assert sorted(arguments(job_id)[0] for job_id in ids) == list("abcd")
        assert {connection().hget(f"rq:job:{job_id}", "crashes") for job_id in ids} == {None}
        with answering([LABEL], lambda label, data: data):
            assert [one.output for one in waits.result(SECONDS)] == inputs

    def test_asks_each_input_as_a_suspect_where_a_worker_died(
        self, thread: ThreadPoolExecutor, failed: list[str]
    ) -> None:
        _, waits, first, second = self.request(thread)
        [claimed] = claim("w", LABEL, limit=1)
        assert claimed.job_id == first
        charge("w", [claimed.execution_key], HUNG)
        self.take(second)
        write(second, self.answers("efgh"))
        ids = eventually(lambda: len(found := waiting(LABEL)) == 4 and found)
        assert sorted(arguments(job_id)[0] for job_id in ids) == list("abcd")
        [claimed] = claim("w", LABEL)
        assert claimed.suspect
        [question] = claimed.questions()
        charge("w", [claimed.execution_key], HUNG)
        with pytest.raises(Poisonous) as raised:
            waits.result(SECONDS)
        number = "abcd".index(question.input)
        assert str(raised.value.detail).startswith(f"input[{number}]: ")
        assert waiting(LABEL) == []  # what waited for it is dropped
        assert failed == [LABEL]

    def test_asks_alone_where_a_worker_cannot_read_such_a_job(
        self, thread: ThreadPoolExecutor
    ) -> None:
        """A worker of an older version fails it; nothing is known of the second job then."""
        inputs, waits, first, second = self.request(thread)
        self.take(first)
        write(first, None, Result.Type.FAILED)
        ids = eventually(
            lambda: len(found := waiting(LABEL)) == 8 and second not in found and found
        )
        assert sorted(arguments(job_id)[0] for job_id in ids) == inputs
        with answering([LABEL], lambda label, data: data):
            assert [one.output for one in waits.result(SECONDS)] == inputs

    def test_shares_no_job_while_a_worker_of_an_older_version_serves_it(self) -> None:
        fields = json.loads(leases.of_this_process("older", [LABEL]).entry)
        del fields["several"]
        older = Registration("older", json.dumps(fields))
        register(older)
        routes().refresh()
        with answering([LABEL], lambda label, data: data) as got:
            ask(A, [*"abcdefgh"], SECONDS)
        assert sorted(data for _, [data] in got) == [*"abcdefgh"]
        older.give_back()
        routes().refresh()
        with answering([LABEL], lambda label, data: data) as got:
            ask(A, [*"abcdefgh"], SECONDS)
        assert sorted(data for _, [data] in got) == [[*"abcd"], [*"efgh"]]

    def test_names_the_input_that_is_refused(self) -> None:
        def answer(label: str, data: Any) -> Any:
            return Refused("invalid_input", "too long") if data == "bad" else data

        with answering([LABEL], answer), pytest.raises(InvalidInput) as raised:
            ask(A, [*"abcdefg", "bad", *"hijklmno"], SECONDS)
        assert str(raised.value.detail) == "input[7]: too long"

    def test_drops_what_waits_at_its_deadline(self, thread: ThreadPoolExecutor) -> None:
        _, waits, first, _ = self.request(thread, seconds=1.0)
        self.take(first)
        write(first, self.answers("abcd"))
        with pytest.raises(DeadlinePassed, match="1 jobs were dropped"):
            waits.result(SECONDS)
        assert waiting(LABEL) == []

    def test_asks_another_version_for_all_when_nobody_serves_the_first(
        self, thread: ThreadPoolExecutor
    ) -> None:
        planned = model("a", "1", "2", follows_environment=True)
        publish(plan_of(planned), {"w": [LABEL]})
        inputs, waits, _, second = self.request(thread)
        connection().hset(f"rq:job:{second}", "crashes", 1)
        publish(plan_of(planned), {"w": [LABEL], "w2": ["a@2"]})
        leave("w")
        eventually(lambda: len(waiting("a@2")) == 8 and not waiting(LABEL))
        jobs = [arguments(job_id)[0] for job_id in dict.fromkeys(waiting("a@2"))]
        assert jobs == [["a", "b", "c", "d"], "e", "f", "g", "h"]
        with answering(["a@2"], lambda label, data: data):
            assert [one.output for one in waits.result(SECONDS)] == inputs

    def test_a_job_that_is_lost_is_enqueued_again_whole(
        self, thread: ThreadPoolExecutor, settings: Any
    ) -> None:
        inputs, waits, first, second = self.request(thread)
        settings.VELO_MAX_QUEUE = 1
        connection().delete(f"rq:job:{first}", queue(LABEL).key)
        eventually(lambda: waiting(LABEL).count(first) == 4)
        with answering([LABEL], lambda label, data: data):
            write(second, self.answers("efgh"))
            assert [one.output for one in waits.result(SECONDS)] == inputs

    def answers(self, letters: str) -> Any:
        return together([asdict(prediction(letter, LABEL)) for letter in letters])

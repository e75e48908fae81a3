"""Many inputs of one request: let in together or not at all, answered in order, failing as one.

The web code in this process, on a real Valkey; the plan and the answers are written by hand.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from rq.results import Result

from inference import dispatch, timing
from inference.bundles import AT_MOST
from inference.choice import Target
from inference.dispatch import ask
from inference.errors import (
    BlankInput,
    DeadlinePassed,
    InputTooLong,
    InvalidInput,
    ModelFailed,
    NotAString,
    NoWorker,
    QueueFull,
)
from inference.exchange import exchange
from tests.answering import (
    answering,
    arguments,
    leave,
    model,
    plan_of,
    publish,
    version,
    waiting,
    write,
)
from tests.waiting import eventually
from workers.broker.connection import connection
from workers.broker.enqueue import Load, NewJob, enqueue
from workers.catalog.plan import Share

pytestmark = pytest.mark.usefixtures("redis")

SECONDS = 30.0
A = Target("a")


@pytest.fixture(autouse=True)
def failed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Labels of versions that failed, instead of the database."""
    found: list[str] = []
    monkeypatch.setattr(timing, "record_failure", found.append)
    return found


@pytest.fixture(autouse=True)
def one_model(redis: None) -> None:
    publish(plan_of(model("a", "1", active="1")), {"w": ["a@1"]})


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


def job_ids(thread: ThreadPoolExecutor, inputs: list[str], **more: Any) -> Any:
    """A request that waits, and its jobs."""
    request: Future[Any] = thread.submit(ask, A, inputs, more.get("seconds", SECONDS))
    ids = eventually(lambda: len(found := waiting("a@1")) == len(inputs) and found)
    return request, ids


def test_a_thousand_answers_come_in_the_order_of_their_inputs() -> None:
    inputs = [f"text {number}" for number in range(1000)]
    with answering(["a@1"], lambda label, data: data):
        found = ask(A, inputs, SECONDS)
    assert [one.output for one in found] == inputs
    assert not exchange()._open


def test_inputs_of_about_the_same_length_wait_beside_each_other() -> None:
    """Then workers' batches have little padding. Their answers come in the order of the request."""
    inputs = ["four", "a", "five.", "no", "b", "six..."]
    with answering(["a@1"], lambda label, data: data) as got:
        found = ask(A, inputs, SECONDS)
    taken = [text for _, [texts] in got for text in texts]
    assert sorted(taken) == sorted(inputs)
    assert [len(text) for text in taken] in (
        sorted(map(len, inputs)),
        sorted(map(len, inputs))[::-1],
    )
    assert [one.output for one in found] == inputs


def test_they_are_enqueued_in_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[list[int]] = []

    def counted(name: str, jobs: list[NewJob], bell: Any, most: Any, groups: list[int]) -> Load:
        steps.append(groups)
        return enqueue(name, jobs, bell, most, groups)

    monkeypatch.setattr("inference.exchange.enqueue", counted)
    with answering(["a@1"]):
        ask(A, ["text"] * 600, SECONDS)
    assert steps == [[-(-600 // AT_MOST)]]


@pytest.mark.parametrize(
    ("kind", "bad", "error", "says"),
    [
        ("embed", 5, NotAString, "input[17]: Expected a JSON string"),
        ("embed", " ", BlankInput, "input[17]: The string is empty"),
        ("embed", "x" * 200_001, InputTooLong, "input[17]: The text has 200001 characters"),
        ("rerank", {"query": "q"}, InvalidInput, "input[17]: texts: expected an array"),
    ],
)
def test_a_bad_input_fails_its_request_and_is_named(
    kind: str, bad: Any, error: Any, says: str
) -> None:
    publish(plan_of(model("a", "1", active="1", kind=kind)), {"w": ["a@1"]})
    good = {"embed": "text", "rerank": {"query": "q", "texts": ["t"]}}[kind]
    with pytest.raises(error) as raised:
        ask(A, [good] * 17 + [bad, good], SECONDS)
    assert str(raised.value.detail).startswith(says)
    with pytest.raises(error) as raised:
        ask(A, [bad], SECONDS)
    assert str(raised.value.detail).startswith(says.removeprefix("input[17]: "))
    assert not waiting("a@1")


def test_one_that_fails_fails_the_request_and_what_waits_is_dropped(
    thread: ThreadPoolExecutor, failed: list[str]
) -> None:
    request, ids = job_ids(thread, ["0", "1", "2"])
    write(ids[0], {"output": 0})
    write(ids[2], None, Result.Type.FAILED)
    with pytest.raises(ModelFailed) as raised:
        request.result(SECONDS)
    assert str(raised.value.detail).startswith(f"input[2]: Every attempt of job {ids[2]}")
    assert raised.value.extra == {"job_id": ids[2]}
    assert set(waiting("a@1")) == {ids[0], ids[2]}  # nobody has taken these out here
    assert failed == ["a@1"]


def test_at_the_deadline_all_that_wait_are_dropped(
    thread: ThreadPoolExecutor, failed: list[str]
) -> None:
    request, ids = job_ids(thread, ["zero", "one", "two"], seconds=1.0)
    connection().lrem("rq:queue:a@1", 1, ids[0])
    write(ids[0], {"output": 0})
    with pytest.raises(DeadlinePassed, match="2 jobs were dropped"):
        request.result(SECONDS)
    assert not waiting("a@1")
    assert not exchange()._open
    assert failed == ["a@1"]


def test_they_are_let_in_together_or_not_at_all(settings: Any, thread: ThreadPoolExecutor) -> None:
    settings.VELO_MAX_QUEUE = 5
    request, ids = job_ids(thread, ["zero", "one", "two"])
    with pytest.raises(QueueFull, match="3 inputs wait already; with 3 more they would be over"):
        ask(A, ["text"] * 3, SECONDS)
    assert waiting("a@1") == ids
    more = thread.submit(ask, A, ["three", "four"], SECONDS)
    eventually(lambda: len(waiting("a@1")) == 5)
    with answering(["a@1"], lambda label, data: data):
        assert [one.output for one in request.result(SECONDS)] == ["zero", "one", "two"]
        assert [one.output for one in more.result(SECONDS)] == ["three", "four"]


def test_an_idle_server_takes_a_request_that_is_larger_than_its_queue(settings: Any) -> None:
    settings.VELO_MAX_QUEUE = 5
    with answering(["a@1"], lambda label, data: data):
        assert len(ask(A, ["text"] * 300, SECONDS)) == 300


def test_a_group_counts_with_all_its_inputs_for_the_groups_behind_it(settings: Any) -> None:
    settings.VELO_MAX_QUEUE = 5
    jobs = [NewJob("a@1", str(number), "", SECONDS) for number in range(6)]
    assert enqueue("a@1", jobs, groups=[3, 3]).admitted == 3
    assert waiting("a@1") == [job.id for job in jobs[:3]]


def test_a_large_group_without_room_keeps_no_small_one_out(settings: Any) -> None:
    settings.VELO_MAX_QUEUE = 4
    jobs = [NewJob("a@1", str(number), "", SECONDS) for number in range(8)]
    assert enqueue("a@1", jobs[:1]).admitted == 1
    # In the order of the exchange: the smallest first.
    load = enqueue("a@1", jobs[1:], groups=[1, 2, 4])
    assert (load.waiting, load.admitted) == (1, 3)
    assert waiting("a@1") == [job.id for job in jobs[:4]]
    # The answer to an earlier call was lost: what is there already is let in and left as it is.
    assert enqueue("a@1", jobs[1:4], groups=[1, 2]).admitted == 3
    assert len(waiting("a@1")) == 4


def test_without_a_worker_none_is_let_in() -> None:
    leave("w")
    with pytest.raises(NoWorker):
        ask(A, ["text"] * 3, SECONDS)
    assert not waiting("a@1")


def test_all_go_to_one_version_and_each_has_its_shadow() -> None:
    planned = model("a", "1", "2", "3", active="1", canary=Share("2", 50), shadow=Share("3", 100))
    publish(plan_of(planned), {"w": ["a@1", "a@2", "a@3"]})
    inputs = [f"text {number}" for number in range(20)]
    with answering(["a@1", "a@2"], lambda label, data: [label, data]):
        versions = set()
        for _ in range(8):
            found = ask(A, inputs, SECONDS)
            [label] = {one.output[0] for one in found}
            assert [one.output for one in found] == [[label, data] for data in inputs]
            versions.add(label)
    assert versions == {"a@1", "a@2"}
    copies = eventually(lambda: waiting("a@3"))
    assert arguments(copies[0])[0] == "text 0"


def test_all_are_asked_elsewhere_when_nobody_serves_their_version_any_more(
    thread: ThreadPoolExecutor,
) -> None:
    planned = model("a", "1", "2", follows_environment=True)
    leave("w")
    publish(plan_of(planned), {"w1": ["a@1"]})
    request, ids = job_ids(thread, ["zero", "one", "two"])
    connection().hset(f"rq:job:{ids[1]}", "crashes", 1)
    publish(plan_of(planned), {"w1": ["a@1"], "w2": ["a@2"]})
    leave("w1")
    moved = eventually(lambda: len(found := waiting("a@2")) == 3 and found)
    assert [connection().hget(f"rq:job:{job}", "crashes") for job in moved] == [None, b"1", None]
    assert not waiting("a@1")
    with answering(["a@2"], lambda label, data: data):
        assert [one.output for one in request.result(SECONDS)] == ["zero", "one", "two"]


def test_a_schema_of_the_version_names_the_input() -> None:
    own = version("own", "1", schemas={"input": {"type": "object"}})
    publish(plan_of(model("own", active="1", kind="custom", versions={"1": own})), {"w": ["own@1"]})
    with pytest.raises(InvalidInput, match=r"input\[1\]: The input: \[\] is not of type"):
        ask(Target("own"), [{}, []], SECONDS)


def test_one_input_is_described_as_before(thread: ThreadPoolExecutor) -> None:
    request = thread.submit(dispatch.transform, A, "text", 0.5)
    with pytest.raises(DeadlinePassed, match=r"No answer within 0.5 s. The job was dropped."):
        request.result(SECONDS)

"""The addresses of models and versions, from HTTP in to HTTP out.

Velo's web code in this process, on a real Valkey; the plan and the answers are written by hand.
"""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from django.test import Client
from rq.job import Job

from inference import exchange, timing
from inference.routing import REFRESH, Routes, routes
from tests.answering import (
    answering,
    arguments,
    leave,
    lose,
    model,
    plan_of,
    publish,
    version,
    waiting,
)
from tests.waiting import eventually
from workers.broker.connection import connection
from workers.catalog import plan
from workers.catalog.plan import Plan, Share

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db(transaction=True)]


def post(path: str = "/transform", body: Any = "Тест!", **headers: str) -> Any:
    return Client(raise_request_exception=False).post(
        path,
        data=json.dumps(body),
        content_type="application/json",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def of(name: str, label: str = "") -> str:
    return f"/models/{name}/versions/{label}/transform" if label else f"/models/{name}/transform"


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


@pytest.fixture
def two_models(redis: None) -> None:
    plan_ = plan_of(model("a", "1", "2", active="2"), model("b", "1", active="1", kind="rerank"))
    publish(plan_, {"w1": ["a@2", "b@1"], "w2": ["a@1"]})


@pytest.mark.usefixtures("two_models")
def test_the_default_model_a_named_one_and_one_version() -> None:
    with answering(["a@1", "a@2", "b@1"], lambda label, data: [label, data]):
        answer = post()
        assert (answer.status_code, answer.json()) == (200, ["a@2", "Тест!"])
        assert answer["X-Velo-Model"] == "a"
        assert answer["X-Velo-Model-Version"] == "a@2"
        assert post(of("a")).json() == ["a@2", "Тест!"]
        assert post(of("a", "1")).json() == ["a@1", "Тест!"]
        data = {"query": "q", "texts": ["t"]}
        assert post(of("b"), data).json() == ["b@1", data]


@pytest.mark.usefixtures("two_models")
def test_the_models_are_listed() -> None:
    listed = Client().get("/models").json()
    assert listed["default"] == "a"
    assert listed["models"]["a"] == {
        "kind": "embed",
        "active": "2",
        "canary": None,
        "shadow": None,
        "versions": {"1": {"state": "ready", "workers": 1}, "2": {"state": "ready", "workers": 1}},
    }
    assert listed["models"].keys() == {"a", "b"}


@pytest.mark.parametrize(
    ("path", "status", "code", "says"),
    [
        (of("c"), 404, "unknown_model", "Known: a, b."),
        (of("c", "1"), 404, "unknown_model", "Known: a, b."),
        (of("a b@/.."), 404, "not_found", "/docs"),
        (of("a%20b@"), 404, "unknown_model", "'a b@'"),
        (of("a", "3"), 404, "unknown_version", "1 (ready), 2 (ready)"),
        (of("a") + "/", 404, "not_found", "/docs"),
    ],
)
@pytest.mark.usefixtures("two_models")
def test_what_is_not_there(path: str, status: int, code: str, says: str) -> None:
    answer = post(path)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    assert says in answer.json()["detail"]


def test_a_version_that_nobody_serves_is_409() -> None:
    publish(plan_of(model("a", "1", "2", active="2"), model("b", "1")), {"w": ["a@2"]})
    answer = post(of("a", "1"))
    assert (answer.status_code, answer.json()["code"]) == (409, "not_serving")
    assert post(of("b")).json()["code"] == "not_serving"


def test_without_a_plan_there_is_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = Routes()
    monkeypatch.setattr("inference.dispatch.routes", lambda: fresh)
    answer = post()
    assert (answer.status_code, answer.json()["code"]) == (503, "no_worker")
    assert Client().get("/models").json() == {"default": None, "models": {}}


def test_the_last_plan_stays_when_redis_has_lost_it() -> None:
    publish(plan_of(model("a", "1", active="1")), {"w": ["a@1"]})
    connection().delete(plan.KEY)
    routes().refresh()
    with answering(["a@1"]):
        assert post().status_code == 200


def test_a_change_of_the_plan_is_noticed_by_itself() -> None:
    publish(plan_of(model("a", "1", "2", active="1")), {"w": ["a@1", "a@2"]})
    changed = plan_of(model("a", "1", "2", active="2"))
    with answering(["a@1", "a@2"], lambda label, data: label):
        assert post().json() == "a@1"
        connection().set(plan.KEY, changed.to_json())
        eventually(lambda: post().json() == "a@2", seconds=REFRESH * 8)


# --- shares -----------------------------------------------------------------------------------


def test_a_canary_gets_its_share_and_keys_stick_to_it() -> None:
    planned = model("a", "1", "2", active="1", canary=Share("2", 25))
    publish(plan_of(planned), {"w": ["a@1", "a@2"]})
    with answering(["a@1", "a@2"], lambda label, data: label):
        got = Counter(post()["X-Velo-Model-Version"] for _ in range(100))
        assert got["a@2"] == pytest.approx(25, abs=2)
        for key in ("ann", "ben", "zoë"):
            assert len({post(X_Request_Key=key).json() for _ in range(5)}) == 1
        assert {post(of("a", "1"), X_Request_Key=str(key)).json() for key in range(9)} == {"a@1"}


def test_a_shadow_gets_a_copy_with_the_answer_and_nobody_waits_for_it() -> None:
    planned = model("a", "1", "2", active="1", shadow=Share("2", 100))
    publish(plan_of(planned), {"w": ["a@1", "a@2"]})
    with answering(["a@1"]) as got:
        assert post(body="text").json() == [0.6, 0.8]
    assert got == [("a@1", ["text"])]
    [copy] = eventually(lambda: waiting("a@2"))
    assert arguments(copy) == ["text", {"to": "a@1", "output": [0.6, 0.8]}]


def test_a_shadow_whose_worker_has_died_harms_nobody() -> None:
    planned = model("a", "1", "2", active="1", shadow=Share("2", 100))
    publish(plan_of(planned), {"w1": ["a@1"], "w2": ["a@2"]})
    lose("w2")
    with answering(["a@1"]):
        assert {post().status_code for _ in range(20)} == {200}
    assert not waiting("a@2")


# --- a version that has just gone -------------------------------------------------------------


def test_a_version_that_has_just_been_retired_costs_nobody_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quiet = Routes()
    monkeypatch.setattr("inference.dispatch.routes", lambda: quiet)
    publish(plan_of(model("a", "1", "2", active="1")), {"w1": ["a@1"]})
    quiet.refresh()
    publish(plan_of(model("a", "1", "2", active="2")), {"w2": ["a@2"]})
    leave("w1")
    assert quiet.known().plan.models["a"].active == "1"  # type: ignore[union-attr]
    with answering(["a@1", "a@2"], lambda label, data: label):
        answer = post()
        assert answer.json() == "a@2"


def test_a_worker_that_has_died_unnoticed_costs_nobody_an_answer() -> None:
    planned = model("a", "1", "2", "3", follows_environment=True, canary=Share("3", 50))
    publish(plan_of(planned), {"w1": ["a@1"], "w2": ["a@2"], "w3": ["a@3"]})
    lose("w1")
    lose("w3")
    with answering(["a@2"], lambda label, data: label):
        assert {post().content for _ in range(20)} == {b'"a@2"'}


def test_the_last_worker_of_all_is_missed() -> None:
    publish(plan_of(model("a", "1", active="1")), {"w": ["a@1"]})
    lose("w")
    answer = post()
    assert (answer.status_code, answer.json()["code"]) == (503, "no_worker")


def test_who_wants_the_version_that_has_died_is_told_if_others_serve() -> None:
    publish(plan_of(model("a", "1", "2", active="2")), {"w1": ["a@1"], "w2": ["a@2"]})
    lose("w1")
    answer = post(of("a", "1"))
    assert (answer.status_code, answer.json()["code"]) == (409, "not_serving")
    lose("w2")
    leave("w2")
    answer = post(of("a", "1"))
    assert (answer.status_code, answer.json()["code"]) == (503, "no_worker")


def test_who_waits_for_a_version_whose_last_worker_leaves_is_answered_by_another(
    thread: ThreadPoolExecutor,
) -> None:
    publish(plan_of(model("a", "1", "2", follows_environment=True)), {"w1": ["a@1"], "w2": ["a@2"]})
    answers: list[Future[Any]] = [thread.submit(post) for _ in range(6)]
    eventually(lambda: len(waiting("a@1")) + len(waiting("a@2")) == 6)
    assert waiting("a@1")
    with answering(["a@2"], lambda label, data: label):
        leave("w1")
        assert {answer.result(60).json() for answer in answers} == {"a@2"}
    assert not waiting("a@1")


def test_the_crashes_of_a_job_count_on_in_the_queue_of_another_version(
    thread: ThreadPoolExecutor,
) -> None:
    """Else a poisonous input could kill VELO_MAX_CRASHES workers of each version."""
    publish(plan_of(model("a", "1", "2", follows_environment=True)), {"w1": ["a@1"], "w2": ["a@2"]})
    answer = thread.submit(post)
    first = eventually(lambda: next(filter(waiting, ("a@1", "a@2")), ""))
    connection().hset(Job.key_for(waiting(first)[0]), "crashes", 2)
    other, worker = ("a@2", "w1") if first == "a@1" else ("a@1", "w2")
    leave(worker)
    [job] = eventually(lambda: waiting(other))
    assert connection().hget(Job.key_for(job), "crashes") == b"2"
    with answering([other]):
        assert answer.result(10).status_code == 200


def test_who_waits_for_the_last_worker_of_all_goes_on_waiting(
    thread: ThreadPoolExecutor,
) -> None:
    publish(plan_of(model("a", "1", follows_environment=True)), {"w1": ["a@1"]})
    answer = thread.submit(post)
    [job] = eventually(lambda: waiting("a@1"))
    lose("w1")
    missed = exchange.exchange()._missed
    eventually(lambda: exchange.exchange()._missed > missed + exchange.MISS)
    assert waiting("a@1") == [job]
    with answering(["a@1"]):
        assert answer.result(60).status_code == 200


def test_who_waits_for_a_pinned_version_goes_on_waiting_whoever_else_serves(
    thread: ThreadPoolExecutor,
) -> None:
    """The worker that has it may come back, and another version was not asked for."""
    publish(plan_of(model("a", "1", "2", active="2")), {"w1": ["a@1"], "w2": ["a@2"]})
    answer = thread.submit(post, of("a", "1"))
    [job] = eventually(lambda: waiting("a@1"))
    lose("w1")
    missed = exchange.exchange()._missed
    eventually(lambda: exchange.exchange()._missed > missed + exchange.MISS)
    assert waiting("a@1") == [job]
    with answering(["a@1"], lambda label, data: label):
        assert answer.result(10).json() == "a@1"


# --- what comes in ----------------------------------------------------------------------------

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "array", "items": {"type": "integer"}}},
    "required": ["n"],
    "additionalProperties": False,
}


@pytest.fixture
def all_kinds(redis: None) -> Iterator[list[tuple[str, Any]]]:
    kinds = ("embed", "sleep", "classify", "ner", "rerank", "custom")
    own = version("own", "1", schemas={"input": SCHEMA})
    planned = [model(kind, "1", active="1", kind=kind) for kind in kinds]
    planned.append(model("own", active="1", kind="custom", versions={"1": own}))
    labels = [f"{one.name}@1" for one in planned]
    publish(plan_of(*planned), {"w": labels})
    with answering(labels, lambda label, data: data) as got:
        yield got  # type: ignore[misc]


@pytest.mark.usefixtures("all_kinds")
@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("embed", "text"),
        ("sleep", "text"),
        ("classify", "text"),
        ("ner", "text"),
        ("rerank", {"query": "q", "texts": ["a"] * 256}),
        ("custom", None),
        ("custom", [1, {"a": "b"}]),
        ("own", {"n": [1, 2]}),
    ],
)
def test_what_a_kind_takes_reaches_the_model_as_it_is(name: str, body: Any) -> None:
    answer = post(of(name), body)
    assert (answer.status_code, answer.json()) == (200, body)


@pytest.mark.parametrize(
    ("name", "body", "code", "says"),
    [
        ("classify", {"text": "a"}, "not_a_string", "got an object"),
        ("ner", [], "not_a_string", "got an array"),
        ("classify", " ", "blank_input", "Send some text"),
        ("rerank", "text", "invalid_input", 'Expected an object {"query": "…", "texts"'),
        ("rerank", {"texts": ["a"]}, "invalid_input", "query: expected a string"),
        ("rerank", {"query": " ", "texts": ["a"]}, "invalid_input", "query: expected a string"),
        ("rerank", {"query": "q"}, "invalid_input", "texts: expected an array"),
        ("rerank", {"query": "q", "texts": "a"}, "invalid_input", "got a string"),
        ("rerank", {"query": "q", "texts": []}, "invalid_input", "texts: expected 1 to 256"),
        ("rerank", {"query": "q", "texts": ["a"] * 257}, "invalid_input", "got 257"),
        ("rerank", {"query": "q", "texts": ["a", 1]}, "invalid_input", "texts[1]: expected"),
        ("rerank", {"query": "q", "texts": ["a", ""]}, "invalid_input", "texts[1]: expected"),
        ("rerank", {"query": "q", "texts": ["a"], "k": 1}, "invalid_input", "k: unknown"),
        ("own", [], "invalid_input", "The input: [] is not of type 'object'"),
        ("own", {"n": [1, "x" * 1000]}, "invalid_input", "n[1]: 'xxx"),
        ("own", {"n": [], "m": 1}, "invalid_input", "'m' was unexpected"),
    ],
)
def test_what_a_kind_does_not_take_is_400_and_says_where(
    all_kinds: Any, name: str, body: Any, code: str, says: str
) -> None:
    answer = post(of(name), body)
    assert (answer.status_code, answer.json()["code"]) == (400, code), answer.content
    assert says in answer.json()["detail"]
    assert len(answer.json()["detail"]) < 500
    assert not all_kinds


def test_all_texts_together_may_be_too_long(all_kinds: Any, settings: Any) -> None:
    settings.VELO_MAX_INPUT_CHARS = 10
    answer = post(of("rerank"), {"query": "q", "texts": ["12345", "1234"]})
    assert answer.status_code == 200
    answer = post(of("rerank"), {"query": "q", "texts": ["12345", "12345"]})
    assert (answer.status_code, answer.json()["code"]) == (413, "input_too_long")
    assert "11 characters; at most 10" in answer.json()["detail"]


def test_a_schema_that_follows_the_input_has_an_end(thread: ThreadPoolExecutor) -> None:
    tree = {"type": "array", "items": {"$ref": "#"}}
    own = version("own", "1", schemas={"input": tree})
    publish(plan_of(model("own", active="1", kind="custom", versions={"1": own})), {"w": ["own@1"]})
    with answering(["own@1"]):
        assert post(body=[[[]]]).status_code == 200
    deep: Any = []
    for _ in range(400):
        deep = [deep]
    answer = post(body=deep)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
    assert "too deeply" in answer.json()["detail"]


# --- what goes wrong --------------------------------------------------------------------------


def test_a_failure_counts_for_the_version_that_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[str] = []
    monkeypatch.setattr(timing, "record_failure", failed.append)
    publish(plan_of(model("a", "1", "2", active="2")), {"w": ["a@2", "a@1"]})
    answer = post(of("a", "1"), X_Request_Timeout="0.1")
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_passed")
    assert failed == ["a@1"]
    assert not waiting("a@1")


def test_many_who_find_a_version_gone_look_into_redis_once(
    monkeypatch: pytest.MonkeyPatch, thread: ThreadPoolExecutor
) -> None:
    reads = 0
    go_on = threading.Event()
    published = plan.published

    def slowly() -> Plan | None:
        nonlocal reads
        reads += 1
        assert go_on.wait(10)
        return published()

    monkeypatch.setattr(plan, "published", slowly)
    shared = Routes()
    looks = [thread.submit(shared.refresh) for _ in range(8)]
    eventually(lambda: all(look.running() for look in looks))
    go_on.set()
    for look in looks:
        look.result(60)
    assert reads <= 4  # of 8; a busy machine lets a thread look late

"""Cohere's and Jina's form of requests and answers; the scores are written by hand."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import orjson
import pytest
from django.test import Client
from rq.job import Job

from tests.answering import (
    answering,
    model,
    plan_of,
    prediction,
    publish,
    version,
    waiting,
    write,
)
from tests.waiting import eventually
from workers.broker.connection import connection
from workers.broker.wire import JSONSerializer

PATHS = ["/v1/rerank", "/v2/rerank", "/rerank"]

pytestmark = pytest.mark.usefixtures("redis")


@pytest.fixture(autouse=True)
def models(redis: None) -> None:
    raw = {"1": version("raw", "1", options={"raw_scores": True})}
    publish(
        plan_of(
            model("a", "1", active="1", kind="embed"),
            model("ranker", "1", active="1", kind="rerank"),
            model("raw", active="1", kind="rerank", versions=raw),
        ),
        {"v": ["a@1"], "w": ["ranker@1"], "x": ["raw@1"]},
    )


def by_length(label: str, given: Any) -> Any:
    """The longer a text, the better."""
    found = [
        {"index": place, "score": len(text) / 100} for place, text in enumerate(given["texts"])
    ]
    return sorted(found, key=lambda one: -one["score"])


def post(body: Any, path: str = "/v2/rerank") -> Any:
    with answering(["ranker@1", "raw@1"], by_length) as got:
        answer = Client().post(path, orjson.dumps(body), "application/json")
    return answer.status_code, answer.json(), [given for _, [given] in got]


@pytest.mark.parametrize("path", PATHS)
def test_the_best_document_comes_first(path: str) -> None:
    documents = ["aa", {"text": "aaaa"}, "aaa"]
    status, found, _ = post({"query": "q", "documents": documents, "model": "ranker"}, path)
    assert status == 200, found
    assert [one["index"] for one in found["results"]] == [1, 2, 0]
    assert [one["relevance_score"] for one in found["results"]] == [0.04, 0.03, 0.02]
    assert found["model"] == "ranker"
    assert found["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert found["meta"]["api_version"]["version"] == ("2" if path == "/v2/rerank" else "1")
    assert "document" not in found["results"][0]


def test_only_the_best_and_with_their_texts() -> None:
    body = {"query": "q", "documents": ["a", "aaa", "aa"], "top_n": 2, "return_documents": True}
    _, found, _ = post(body | {"max_tokens_per_doc": None, "rank_fields": ["text"]})
    assert [one["document"] for one in found["results"]] == [{"text": "aaa"}, {"text": "aa"}]
    _, found, _ = post(body | {"top_n": 9})
    assert len(found["results"]) == 3


def test_many_documents_are_spread_and_come_back_as_one_ranking(settings: Any) -> None:
    settings.VELO_BATCH_MAX = 4
    documents = ["a" * (1 + number % 7) for number in range(30)]
    _, found, got = post({"query": "q", "documents": documents})
    assert sorted(len(given["texts"]) for given in got) == [2, *[4] * 7]
    assert sorted(text for given in got for text in given["texts"]) == sorted(documents)
    wanted = sorted(range(30), key=lambda place: (-len(documents[place]), place))
    assert [one["index"] for one in found["results"]] == wanted


def test_documents_are_cut_by_their_characters_too(settings: Any) -> None:
    settings.VELO_MAX_INPUT_CHARS = 10
    status, _, got = post({"query": "qq", "documents": ["a" * 8, "a" * 5, "a" * 3, "a"]})
    assert status == 200
    assert [given["texts"] for given in got] == [["a" * 8], ["a" * 5, "a" * 3], ["a"]]
    status, found, _ = post({"query": "qq", "documents": ["a", "a" * 9]})
    assert (status, found["error"]["param"]) == (413, "documents[1]")


def test_scores_from_0_to_1_are_asked_for_whatever_the_version_gives() -> None:
    body = orjson.dumps({"query": "q", "documents": ["a"], "model": "raw"})
    with ThreadPoolExecutor(1) as aside:
        request = aside.submit(Client().post, "/rerank", body, "application/json")
        [job_id] = eventually(lambda: waiting("raw@1"))
        job = Job.fetch(job_id, connection(), JSONSerializer)
        assert job.kwargs == {"parameters": {"raw_scores": False}}
        write(job_id, asdict(prediction([{"index": 0, "score": 0.5}], "raw@1")))
        assert request.result().json()["results"] == [{"index": 0, "relevance_score": 0.5}]


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ([], "invalid_input", None),
        ({"documents": ["a"]}, "invalid_input", "query"),
        ({"query": " ", "documents": ["a"]}, "blank_input", "query"),
        ({"query": "q"}, "invalid_input", "documents"),
        ({"query": "q", "documents": []}, "empty_batch", "documents"),
        ({"query": "q", "documents": ["a", 5]}, "invalid_input", "documents[1]"),
        ({"query": "q", "documents": ["a", {"title": "a"}]}, "invalid_input", "documents[1]"),
        ({"query": "q", "documents": ["a", ""]}, "blank_input", "documents[1]"),
        ({"query": "q", "documents": ["a"], "top_n": 0}, "invalid_input", "top_n"),
        (
            {"query": "q", "documents": ["a"], "return_documents": 1},
            "invalid_input",
            "return_documents",
        ),
        ({"query": "q", "documents": ["a"], "model": "a"}, "wrong_kind", None),
    ],
)
def test_a_bad_request_names_the_field(body: Any, code: str, param: str) -> None:
    status, found, _ = post(body)
    assert (status, found["error"]["code"], found["error"]["param"]) == (400, code, param)


def test_too_many_documents(settings: Any) -> None:
    settings.VELO_MAX_INPUTS = 2
    status, found, _ = post({"query": "q", "documents": ["a"] * 3})
    assert (status, found["error"]["code"]) == (413, "too_many_inputs")


def test_without_an_answer_the_request_is_over_in_time(settings: Any) -> None:
    settings.VELO_BATCH_MAX, settings.VELO_REQUEST_TIMEOUT = 1, 0.5
    answer = Client().post(
        "/rerank", b'{"query": "q", "documents": ["a", "b"]}', "application/json"
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_passed")
    assert "2 jobs were dropped" in answer.json()["error"]["message"]

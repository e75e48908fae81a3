"""What a caller sees when all goes well."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.stack import Stack


def test_the_answer_is_an_array_of_floats(velo: Stack) -> None:
    answer = velo.transform("Тест!")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert isinstance(answer.json, list)
    assert all(isinstance(number, float) for number in answer.json)


def test_the_answer_says_who_gave_it_and_how_long_it_took(velo: Stack) -> None:
    answer = velo.transform("Hello")
    assert re.fullmatch(r"all-MiniLM-L6-v2@[0-9a-f]{12}", answer.headers["x-velo-model-version"])
    assert answer.headers["x-velo-worker"] in velo.get("/stat").json["workers"]
    stages = dict(
        re.fullmatch(r"(\w+);dur=(\d+\.\d)", stage).groups()  # type: ignore[union-attr]
        for stage in answer.headers["server-timing"].split(", ")
    )
    assert set(stages) == {"queue", "model", "total"}
    assert float(stages["queue"]) + float(stages["model"]) <= float(stages["total"])


def test_many_callers_each_get_their_own_answer(velo: Stack) -> None:
    texts = [f"text number {number}" for number in range(40)]
    alone = {text: velo.transform(text).json for text in texts}
    with ThreadPoolExecutor(16) as callers:
        together = dict(zip(texts, callers.map(velo.transform, texts), strict=True))
    for text in texts:
        assert together[text].json == pytest.approx(alone[text], abs=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "a\x00b",
        "🙂🚀",
        "e" + "\u0301" * 100_000,
        "שלום \u202e مرحبا",
        "a\u200bb",
        "\uffff",
        "a" * 200_000,
        "'; DROP TABLE workers_worker; --",
    ],
    ids=["NUL", "emoji", "combining", "rtl", "zwsp", "nonchar", "longest", "sql"],
)
def test_odd_text_gets_an_embedding(velo: Stack, text: str) -> None:
    answer = velo.transform(text)
    assert answer.status == 200, answer.body
    assert len(answer.json) == 384


def test_a_client_may_ask_for_another_form_and_gets_json(velo: Stack) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8", "Accept": "text/html"}
    answer = velo.request("POST", "/transform", json.dumps("x").encode(), headers)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"


def test_health(velo: Stack) -> None:
    assert velo.get("/health/live").json == {"status": "live"}
    assert velo.get("/health/ready").json == {"status": "ready", "workers": 2}


def test_the_root_leads_to_the_docs(velo: Stack) -> None:
    answer = velo.get("/")
    assert (answer.status, answer.headers["location"]) == (302, "/docs")


def test_the_docs_ask_nothing_of_other_hosts(velo: Stack) -> None:
    page = velo.get("/docs").body.decode()
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert links
    assert all(link.startswith("/static/") for link in links)
    assert {velo.get(link).status for link in links} == {200}

"""Each answer says the id of its request, which goes with its jobs into logs and the admin."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client as Browser

from tests.answering import answering, model, plan_of, publish, waiting
from tests.jobs import claim
from tests.jobs import waiting as a_job
from tests.letters import Letters, work
from tests.stack import Stack, stack
from workers.admin.addresses import job_page
from workers.broker.connection import connection
from workers.broker.names import QUEUE

ID = "X-Request-Id"
MALFORMED = ["", " ", "with blank", "a\tb", "x" * 129, "schön", "a\x7f"]


@pytest.mark.usefixtures("redis")
class TestInTheProcess:
    @pytest.fixture(autouse=True)
    def one_model(self, redis: None) -> None:
        publish(plan_of(model("a", "1", active="1")), {"w": ["a@1"]})

    def post(self, path: str, body: str, given: str | None = None) -> Any:
        browser = Browser(headers={} if given is None else {ID: given})
        return browser.post(path, body, content_type="application/json")

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/transform", '"text"'),
            ("/v1/embeddings", '{"input": "text"}'),
            ("/embed", '{"inputs": "text"}'),
            ("/nowhere", "{}"),
            ("/v1/nowhere", "{}"),
            ("/transform", "no json"),
            ("/v1/embeddings", "no json"),
            ("/v2/models/a/infer", "{}"),
        ],
    )
    def test_every_answer_repeats_the_id_of_the_caller(self, path: str, body: str) -> None:
        with answering(["a@1"]):
            assert self.post(path, body, "my-id/7")[ID] == "my-id/7"

    @pytest.mark.parametrize("given", MALFORMED)
    def test_an_id_that_is_not_well_formed_is_replaced(self, given: str) -> None:
        with answering(["a@1"]):
            found = {self.post("/transform", '"text"', given)[ID] for _ in range(2)}
        assert len(found) == 2
        assert given not in found

    def test_an_id_of_128_characters_is_well_formed(self) -> None:
        with answering(["a@1"]):
            assert self.post("/transform", '"text"', "x" * 128)[ID] == "x" * 128

    def test_it_goes_with_the_job(self) -> None:
        browser = Browser(headers={ID: "my-id", "X-Request-Timeout": "0.2"})
        browser.post("/transform", '"text"', content_type="application/json")
        with answering(["a@1"], lambda label, data: [1.0]):
            pass
        assert waiting("a@1") == []
        job_id = a_job("a@1", request="my-id")
        [claimed] = claim("w", "a@1")
        assert claimed.request == "my-id"
        assert claimed.named == f"{job_id} (request my-id)"


@pytest.mark.usefixtures("redis")
@pytest.mark.django_db(transaction=True)
def test_a_workers_log_and_the_page_of_a_failed_job_say_it(
    letters: Letters, settings: Any, caplog: Any, admin_client: Browser
) -> None:
    settings.VELO_RETRY_MAX = 0
    job_id = a_job(QUEUE, "bad", request="my-id")
    caplog.set_level(logging.WARNING)
    work()
    assert f"job {job_id} (request my-id): ValueError" in caplog.text
    assert connection().hget(f"rq:job:{job_id}", "request") == b"my-id"
    assert "my-id" in admin_client.get(job_page(QUEUE, job_id)).content.decode()


@pytest.fixture(scope="module")
def velo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(
        tmp_path_factory.mktemp("velo"),
        VELO_PREDICTOR="sleep",
        VELO_SLEEP_MS=1,
        VELO_MAX_BODY_BYTES=1000,
    ) as running:
        yield running


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/transform", b'"text"', 200),
        ("POST", "/transform", b'"' + b"x" * 2000 + b'"', 413),
        ("GET", "/health/live", b"", 200),
        ("GET", "/admin/login/", b"", 200),
        ("PUT", "/v1/embeddings", b"", 405),
    ],
)
def test_behind_the_door_too(velo: Stack, method: str, path: str, body: bytes, status: int) -> None:
    headers = {"Content-Type": "application/json", ID: "my-id"}
    answer = velo.request(method, path, body, headers)
    assert (answer.status, answer.headers["x-request-id"]) == (status, "my-id")
    del headers[ID]
    made = {velo.request(method, path, body, headers).headers["x-request-id"] for _ in range(2)}
    assert len(made) == 2


def test_a_request_that_cant_be_read_has_one(velo: Stack) -> None:
    headers = {"Transfer-Encoding": "gzip, chunked", ID: "my-id"}
    answer = velo.request("POST", "/transform", b"0\r\n\r\n", headers)
    assert answer.status == 411
    assert answer.headers["x-request-id"]


def test_logs_may_be_json_with_the_id_in_a_field(tmp_path: Path) -> None:
    with stack(
        tmp_path, DJANGO_SETTINGS_MODULE="tests.faults.settings", VELO_LOG="json", VELO_RETRY_MAX=0
    ) as velo:
        headers = {"Content-Type": "application/json", ID: "my-id"}
        answer = velo.request("POST", "/transform", b'"raise: it does"', headers)
        assert answer.status == 500
        written = velo.output().splitlines()
    lines = [json.loads(line[line.index("{") :]) for line in written if '"logger"' in line]
    [found] = [line for line in lines if line["request"] == "my-id"]
    assert found["logger"] == "workers.runtime.answers"
    assert found["level"] == "WARNING"
    assert answer.json["job_id"] in found["message"]

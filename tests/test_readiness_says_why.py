"""Ready means that the default model would be answered now; else /health/ready and /transform give
the same true reason."""

from typing import Any

import pytest
from django.test import Client
from rq.suspension import resume, suspend

from inference.routing import routes
from tests.answering import model, plan_of, publish
from tests.jobs import register
from workers.broker import leases
from workers.broker.connection import connection
from workers.broker.names import QUEUE

pytestmark = pytest.mark.usefixtures("redis")


def alive(worker: str, *queues: str, problems: dict[str, str] | None = None) -> None:
    register(leases.of_this_process(worker, queues, None, problems))


def ready() -> dict[str, Any]:
    found: dict[str, Any] = Client().get("/health/ready").json()
    return found


def transform() -> dict[str, Any]:
    routes().refresh()
    answer = Client().post("/transform", '"text"', "application/json")
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture(autouse=True)
def planned(redis: None, settings: Any) -> None:
    settings.VELO_LEASE = 60  # longer than any test takes on a busy machine
    publish(plan_of(model("m", "1", "2", active="1")), {})


def test_a_worker_that_serves_the_default_model_is_ready() -> None:
    alive("w", "m@1")
    assert ready() == {"status": "ready", "workers": 1}


def test_a_worker_that_holds_no_version_is_not_ready_and_says_why() -> None:
    why = "m@1 takes 400 MB; a worker may hold 100 MB. Raise VELO_WORKER_MEMORY_MB."
    alive("w", QUEUE, problems={"m@1": why})
    for answer in (ready(), transform()):
        assert (answer["status"], answer["code"]) == (503, "no_worker")
        assert why in answer["detail"]
        assert "m@1" in answer["detail"]


def test_a_worker_with_another_version_than_the_default_one_is_not_ready() -> None:
    alive("w", "m@2")
    for answer in (ready(), transform()):
        assert (answer["status"], answer["code"]) == (503, "no_worker")


def test_why_no_worker_could_start_is_said_in_both_places() -> None:
    leases.note_failed_start([QUEUE], "/models/m lacks config.json")
    for answer in (ready(), transform()):
        assert (answer["status"], answer["code"]) == (503, "no_worker")
        assert "/models/m lacks config.json" in answer["detail"]


def test_a_suspension_is_the_reason_until_it_ends() -> None:
    alive("w", "m@1")
    suspend(connection())
    for answer in (ready(), transform()):
        assert (answer["status"], answer["code"]) == (503, "suspended")
        assert "rqresume" in answer["detail"]
    resume(connection())
    assert ready()["status"] == "ready"


def test_a_redis_that_refuses_to_be_written_to_is_the_reason() -> None:
    alive("w", "m@1")
    connection().config_set("maxmemory", 1)
    try:
        for answer in (ready(), transform()):
            assert (answer["status"], answer["code"]) == (503, "queue_away")
            assert "Redis refuses to be written to: " in answer["detail"]
            assert "used memory" in answer["detail"]
    finally:
        connection().config_set("maxmemory", 0)

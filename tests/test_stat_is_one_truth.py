"""/stat: the founding document's fields, the same whichever process answers."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection as database
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.stack import stack
from tests.waiting import eventually
from workers.broker.connection import connection
from workers.host import machine
from workers.metrics import latency
from workers.models import ModelVersion, ServedModel, Worker


def a_version() -> ModelVersion:
    model = ServedModel.objects.create(name="m")
    return ModelVersion.objects.create(model=model, version="1", state="ready")


def make_workers(count: int, **fields: Any) -> None:
    version = a_version()
    Worker.objects.bulk_create(
        Worker(
            id=f"worker-{number}",
            node="node",
            host=machine.identity(),
            pid=1,
            queues="default",
            state="idle",
            model_version=version,
            held={str(version): {"state": "ready", "batches": fields.get("batches", {})}},
            **fields,
        )
        for number in range(count)
    )


@pytest.mark.usefixtures("redis", "db")
def test_it_has_the_fields_of_the_founding_document() -> None:
    make_workers(1, model_time=0.25, batches={"sizes": {"2": 3}, "tokens": 30, "padded": 40})
    latency._push_responses([0.1, 0.3])
    connection().rpush("rq:queue:default", "a", "b")
    stat = Client().get("/stat").json()
    assert set(stat) == {
        *("workers", "model_versions", "queue_lenght", "queue_length", "response_time"),
        "database_age",
    }
    assert stat["database_age"] == 0
    assert stat["queue_lenght"] == stat["queue_length"] == 2
    assert stat["response_time"] == pytest.approx(0.2)
    worker = stat["workers"]["worker-0"]
    assert set(worker) == {
        *("last_seen", "model_version", "node_name", "model_time", "batches", "model_versions"),
    }
    assert worker["batches"] == {
        "count": 3,
        "mean_size": 2.0,
        "sizes": {"2": 3},
        "padding": 0.25,
    }
    assert stat["model_versions"] == {"m@1": {"workers": 1, "batches": worker["batches"]}}
    assert datetime.fromisoformat(worker["last_seen"]).tzinfo is not None
    assert (worker["model_version"], worker["node_name"]) == ("m@1", "node")
    assert worker["model_versions"] == ["m@1"]
    assert worker["model_time"] == 0.25


@pytest.mark.usefixtures("redis", "db")
def test_it_is_empty_before_the_first_request() -> None:
    assert Client().get("/stat").json() == {
        "workers": {},
        "model_versions": {},
        "queue_lenght": 0,
        "queue_length": 0,
        "response_time": None,
        "database_age": 0.0,
    }


@pytest.mark.usefixtures("redis", "db")
@pytest.mark.parametrize("count", [1, 200])
def test_it_costs_one_query_however_many_workers_there_are(count: int) -> None:
    make_workers(count)
    with CaptureQueriesContext(database) as queries:
        stat = Client().get("/stat").json()
    assert len(stat["workers"]) == count
    assert len(queries) == 1


@pytest.mark.usefixtures("redis", "db")
def test_a_versions_batches_are_those_of_its_live_workers() -> None:
    make_workers(3, batches={"sizes": {"1": 1, "4": 1}, "tokens": 9, "padded": 10})
    Worker.objects.filter(pk="worker-2").update(state="stopped")
    [version] = Client().get("/stat").json()["model_versions"].values()
    assert version["workers"] == 2
    assert version["batches"] == {
        "count": 4,
        "mean_size": 2.5,
        "sizes": {"1": 2, "4": 2},
        "padding": pytest.approx(0.1),
    }


@pytest.mark.usefixtures("redis", "db")
def test_it_leaves_out_who_is_lost_or_ended(settings: Any) -> None:
    make_workers(4)
    Worker.objects.filter(pk="worker-1").update(last_seen=Now() - timedelta(seconds=60))
    Worker.objects.filter(pk="worker-2").update(state="stopped")
    Worker.objects.filter(pk="worker-3").update(state="failed")
    assert list(Client().get("/stat").json()["workers"]) == ["worker-0"]


@pytest.mark.usefixtures("redis")
def test_response_time_is_the_mean_of_the_last_1000_answers() -> None:
    latency._push_responses([9.0] * 500)
    latency._push_responses([1.0] * 600)
    assert latency.response_time() == pytest.approx((600 * 1.0 + 400 * 9.0) / 1000)


def test_several_web_processes_give_one_answer(tmp_path: Path) -> None:
    with stack(tmp_path, VELO_PREDICTOR="sleep", VELO_WEB_PROCESSES=3) as velo:
        for _ in range(30):
            assert velo.transform("a").status == 200

        # The web processes and the worker write their figures in their own time: the answers are
        # complete when the worker's is among them, and agree once every process has flushed.
        def figures() -> list[Any]:
            answers = [velo.get("/stat").json for _ in range(20)]
            return [(answer["response_time"], answer["workers"]) for answer in answers]

        def complete() -> bool:
            one = velo.get("/stat").json
            times = [worker["model_time"] for worker in one["workers"].values()]
            return bool(one["response_time"]) and len(times) == 1 and all(times)

        def agreed() -> bool:
            found = figures()
            return all(one[0] == found[0][0] and set(one[1]) == set(found[0][1]) for one in found)

        eventually(complete)
        eventually(agreed)
        response_time, workers = figures()[0]
        assert 0.010 < response_time < 1
        [worker] = workers.values()
        assert 0.010 <= worker["model_time"] < 0.1

"""Too much, too late, or nobody there: refused at once, with a reason and a time to come back.

These run Velo's web code in this process, on a real Valkey; where a worker must run, it does.
"""

import threading
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django_rq.utils import requeue_job
from redis import Redis
from rq import Queue
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry
from rq.serializers import DefaultSerializer

from inference.asking import new_job
from inference.exchange import Exchange
from inference.waiting import Ended
from tests.answering import lose, model, plan_of, publish, waiting
from tests.jobs import enqueue
from tests.stack import stack
from tests.waiting import eventually
from workers import jobs, predictors
from workers.broker import enqueue as broker
from workers.broker.clock import clock
from workers.broker.connection import connection, queue
from workers.broker.enqueue import promote_due
from workers.broker.names import QUEUE
from workers.broker.wire import JSONSerializer
from workers.models import Worker
from workers.runtime.worker import InferenceWorker
from workers.values.prediction import Prediction

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db(transaction=True)]


LABEL = "m@1"
PLAN = plan_of(model("m", "1", active="1"))


def post(text: str = "Тест!", timeout: str | None = None) -> Any:
    client = Client(raise_request_exception=False)
    headers = {} if timeout is None else {"X-Request-Timeout": timeout}
    return client.post(
        "/transform", data=f'"{text}"', content_type="application/json", headers=headers
    )


def work() -> InferenceWorker:
    """A real worker, in this process, until the queue is empty."""
    worker = InferenceWorker([queue()], connection=connection())
    worker.work(burst=True)
    return worker


@pytest.fixture
def a_worker_that_never_comes(redis: None) -> None:
    publish(PLAN, {"nobody": [LABEL]})


@pytest.fixture
def sleeping_model(settings: Any) -> Iterator[None]:
    settings.VELO_PREDICTOR = "sleep"
    yield
    jobs.install(None)


def test_no_live_worker_is_503_at_once() -> None:
    publish(PLAN, {})
    started = time.monotonic()
    answer = post()
    assert answer.status_code == 503
    assert answer.json()["code"] == "no_worker"
    assert answer["Retry-After"] == "5"
    assert time.monotonic() - started < 6
    assert not waiting(LABEL)


def test_a_lost_worker_does_not_count() -> None:
    publish(PLAN, {"dead": [LABEL]})
    lose("dead")
    assert post().json()["code"] == "no_worker"


@pytest.mark.usefixtures("a_worker_that_never_comes")
def test_a_full_queue_is_429_at_once(settings: Any) -> None:
    settings.VELO_MAX_QUEUE = 3
    broker.enqueue(LABEL, [new_job(LABEL, "waits", 30) for _ in range(3)])
    answer = post()
    assert answer.status_code == 429
    assert answer.json()["code"] == "queue_full"
    assert answer["Retry-After"] == "1"
    assert len(waiting(LABEL)) == 3


@pytest.mark.usefixtures("a_worker_that_never_comes", "sleeping_model")
def test_past_the_deadline_is_504_and_the_job_never_runs(settings: Any) -> None:
    settings.VELO_REQUEST_TIMEOUT = 0.3
    answer = post()
    assert answer.status_code == 504
    assert answer.json()["code"] == "deadline_passed"
    assert "job_id" not in answer.json()  # nothing is kept of it that a person could look up
    assert not list(connection().scan_iter("rq:job:*"))
    assert not waiting(LABEL)
    assert work().done == 0


def test_a_model_that_takes_longer_than_the_job_timeout_is_500(tmp_path: Path) -> None:
    knobs = {"VELO_SLEEP_MS": 30_000, "VELO_JOB_TIMEOUT": 1, "VELO_RETRY_MAX": 0}
    with stack(tmp_path, VELO_PREDICTOR="sleep", **knobs) as velo:
        answer = velo.transform("a")
        assert (answer.status, answer.json["code"]) == (500, "poisonous")


@pytest.mark.parametrize("header", ["soon", "0", "-1", "nan", ""])
def test_a_timeout_that_is_no_number_of_seconds_is_400(header: str) -> None:
    answer = post(timeout=header)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_timeout")


@pytest.mark.usefixtures("a_worker_that_never_comes")
def test_a_caller_may_wait_for_less() -> None:
    answer = post(timeout="0.2")
    assert answer.status_code == 504
    assert "within 0.2 s" in answer.json()["detail"]
    assert not list(connection().scan_iter("rq:job:*"))


@pytest.mark.usefixtures("a_worker_that_never_comes")
def test_nobody_waits_longer_than_the_server_lets_him(settings: Any) -> None:
    settings.VELO_REQUEST_TIMEOUT = 0.2
    answer = post(timeout="3600")
    assert answer.status_code == 504


@pytest.mark.usefixtures("sleeping_model")
def test_a_job_whose_caller_died_with_its_web_process_never_runs() -> None:
    soon = clock.now() + 0.2
    queue().enqueue_call(jobs.INFER, args=("late",), meta={"deadline": soon})
    eventually(lambda: clock.now() > soon)
    on_time = enqueue("on time")
    worker = work()
    assert (worker.done, worker.failed) == (1, 0)
    assert on_time.get_status() == JobStatus.FINISHED


def test_a_person_may_run_a_job_again_after_its_deadline(
    sleeping_model: None, settings: Any
) -> None:
    settings.VELO_REQUEST_TIMEOUT = 4  # a busy machine takes seconds to start a worker
    job = enqueue("text")
    assert work().done == 1
    eventually(lambda: clock.now() > job.meta["deadline"])
    requeue_job(queue(), job)
    assert work().done == 1
    assert len(job.results()) == 2


@pytest.mark.usefixtures("a_worker_that_never_comes")
def test_redis_forgets_a_job_that_nobody_waits_for(settings: Any) -> None:
    job = enqueue("text")
    assert 0 < connection().ttl(job.key) <= settings.VELO_REQUEST_TIMEOUT


class Broken:
    """A model that raises: no real one does so on demand."""

    spec = predictors.Spec("broken", "1", "embed")
    dimensions, engine_chosen, call_tokens = 3, "none", 48
    facts: Mapping[str, Any] = MappingProxyType({})
    calls = 0
    seconds = 0.0  # until it raises

    def encode(self, texts: Any, parameters: Any = None) -> Any:
        return [predictors.Encoded(text, len(text), truncated=False) for text in texts]

    def predict(self, batch: Any) -> Any:
        self.calls += 1
        threading.Event().wait(self.seconds)
        raise ValueError("a secret of the model's")

    def warm_up(self) -> None: ...

    def use_threads(self, threads: int) -> None: ...


@pytest.fixture
def broken_model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Broken]:
    broken = Broken()
    monkeypatch.setattr(predictors, "declared", lambda: broken.spec)
    monkeypatch.setattr(predictors, "load", lambda spec, threads: broken)
    yield broken
    jobs.install(None)


def test_a_model_that_raises_is_500_with_the_jobs_id(
    broken_model: Broken, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VELO_RETRY_MAX, settings.VELO_RETRY_INTERVALS = 2, [0]
    label = broken_model.spec.label
    publish(plan_of(model("broken", "1", active="1")), {"this test": [label]})
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(post()))
    asking.start()
    eventually(lambda: waiting(label))
    work()
    asking.join()
    [answer] = answers
    assert answer.status_code == 500
    problem = answer.json()
    assert problem["code"] == "model_failed"
    assert "secret" not in answer.content.decode()
    job = Job.fetch(problem["job_id"], connection(), serializer=JSONSerializer)
    assert job.get_status() == JobStatus.FAILED
    assert "a secret of the model's" in str(job.latest_result().exc_string)
    assert job.id in FailedJobRegistry(queue=queue(label)).get_job_ids()
    assert broken_model.calls == 3  # the first attempt and two more
    row = Worker.objects.get()
    assert (row.jobs_done, row.jobs_failed, row.state) == (0, 3, Worker.State.STOPPED)


def test_a_job_is_cut_off_at_its_deadline_and_not_tried_again(
    broken_model: Broken, settings: Any
) -> None:
    settings.VELO_RETRY_MAX, settings.VELO_RETRY_INTERVALS = 5, [0]
    settings.VELO_REQUEST_TIMEOUT = 6  # a busy machine takes seconds to start a worker
    job = enqueue("text")
    broken_model.seconds = 30
    work()
    assert broken_model.calls == 1
    assert not Job.exists(job.id, connection())


def test_a_retry_with_an_interval_waits_for_it(broken_model: Broken, settings: Any) -> None:
    settings.VELO_RETRY_MAX, settings.VELO_RETRY_INTERVALS = 1, [60]
    job = enqueue("text")
    work()
    assert job.get_status() == JobStatus.SCHEDULED
    assert promote_due(queue()) == 0
    connection().zadd("rq:scheduled:default", {job.id: clock.now() - 1})
    assert promote_due(queue()) == 1
    assert job.get_status() == JobStatus.QUEUED
    work()
    assert job.get_status() == JobStatus.FAILED
    assert broken_model.calls == 2


def test_a_job_of_another_function_runs_too(sleeping_model: None) -> None:
    job = queue().enqueue("operator.add", 2, 3)
    assert work().done == 1
    assert job.return_value() == 5


@pytest.mark.parametrize("meta", [{"deadline": "tomorrow"}, ["a", "list"]])
def test_a_job_with_a_meta_of_its_own_runs_too(sleeping_model: None, meta: Any) -> None:
    job = queue().enqueue("operator.add", 2, 3, meta=meta)
    assert work().done == 1
    assert job.return_value() == 5


def test_a_job_that_cannot_be_read_fails_alone(sleeping_model: None) -> None:
    """In pickle, say: nobody unpickles it."""
    origin = Queue(QUEUE, connection=connection(), serializer=DefaultSerializer)
    strange = origin.enqueue("operator.add", 2, 3)
    good = enqueue("text")
    worker = work()
    assert (worker.done, worker.failed) == (1, 1)
    assert strange.get_status() == JobStatus.FAILED
    assert good.get_status() == JobStatus.FINISHED


def test_a_job_in_a_process_without_a_model_says_what_is_missing() -> None:
    with pytest.raises(RuntimeError, match="InferenceWorker"):
        jobs.infer("text")


@pytest.mark.usefixtures("a_worker_that_never_comes")
def test_a_request_asks_nothing_of_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing between HTTP in and HTTP out; only Velo's own threads write, now and then."""
    prediction = Prediction([0.6, 0.8], "m@1", "w", 3, False, 0.001, 0.010)
    value = b64encode(JSONSerializer.dumps(asdict(prediction)))
    ended = Ended({b"type": b"1", b"return_value": value})
    monkeypatch.setattr(Exchange, "ask", lambda *args: [ended])
    with CaptureQueriesContext(database) as queries:
        assert post().json() == [0.6, 0.8]
    assert len(queries) == 0


def test_redis_away_is_503_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    started = time.monotonic()
    nowhere = Redis.from_url("unix:///nowhere/valkey.sock")
    monkeypatch.setattr(connection(), "connection_pool", nowhere.connection_pool)
    answer = post()
    assert answer.status_code == 503
    assert answer.json()["code"] == "queue_away"
    assert answer["Retry-After"] == "5"
    for path in ("/health/ready", "/models", "/stat"):
        assert Client().get(path).json()["code"] == "queue_away"
    assert time.monotonic() - started < 6

"""A worker holds the versions that its command line names, or else what the plan says, as far as
its memory reaches."""

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.faults.load import RIGHT, SLOW, Load
from tests.faults.test_a_worker_dies import goes_on
from tests.stack import Answer, Stack, manage, stack
from tests.test_workers import rows, start_worker
from tests.versions import (
    all_hold,
    decide,
    held,
    latest_change,
    leases,
    redis_of,
    refused,
    shell,
    table,
)
from tests.waiting import eventually

OWN = "sleep@1.0.0"  # what a worker is started with
ROOM_FOR_ONE = {"VELO_WORKER_MEMORY_MB": 100}

# "m" is the default one and has a version that may follow; a version takes 60 MB.
START = """
from workers.catalog import plan
from workers.models import Change, ModelVersion, ServedModel, Worker
Change.objects.all().delete()
Worker.objects.all().delete()
ServedModel.objects.update(active=None, previous=None, canary=None, shadow=None)
ModelVersion.objects.all().delete()
ServedModel.objects.all().delete()
def made(name, *versions, **fields):
    model = ServedModel.objects.create(
        name=name, kind="sleep", follows_environment=False, **fields
    )
    for version in versions:
        state = "ready" if model.active else "active"
        row = ModelVersion.objects.create(
            model=model, version=version, state=state, memory=60 * 1024**2
        )
        model.active = model.active or row
    model.save()
made("m", "1", "2", is_default=True)
plan.publish()  # the next worker must not begin with what was planned before
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("velo")
    with stack(folder, workers=0, VELO_PREDICTOR="sleep", VELO_SLEEP_MS=SLOW) as velo:
        yield velo


@pytest.fixture
def velo(running: Stack) -> Stack:
    """No worker runs, and m@1 is active."""
    eventually(lambda: not held(running))
    shell(running, START)
    return running


@contextmanager
def working(velo: Stack, *words: str, count: int = 1, **knobs: object) -> Iterator[None]:
    """So many workers with this command line, until all is over."""
    there = len(velo.get("/stat").json["workers"])
    processes = [start_worker(velo, "rqworker", *words, **knobs) for _ in range(count)]
    try:
        eventually(lambda: len(held(velo)) >= there + count and all_ready(velo), seconds=60)
        yield
    finally:
        stop(processes)


def all_ready(velo: Stack) -> bool:
    """Each worker has all that it is to hold, and the web process knows."""
    versions = list(held(velo).values())
    if not all(one and set(one.values()) == {"ready"} for one in versions):
        return False
    known = Counter(
        {
            f"{name}@{version}": one["workers"]
            for name, model in velo.get("/models").json["models"].items()
            for version, one in model["versions"].items()
        }
    )
    return known >= Counter(label for one in versions for label in one)


def stop(processes: "list[subprocess.Popen[bytes]]") -> None:
    for process in processes:
        process.terminate()
    assert [process.wait(90) for process in processes] == [0] * len(processes)


def ask(velo: Stack, model: str, version: str = "") -> Answer:
    path = f"/models/{model}/versions/{version}" if version else f"/models/{model}"
    return velo.request(
        "POST", f"{path}/transform", b'"text"', {"Content-Type": "application/json"}
    )


def answered_by(velo: Stack, model: str, version: str = "") -> str:
    answer = ask(velo, model, version)
    assert answer.status == 200, answer.body
    return answer.headers["x-velo-model-version"]


def test_who_names_a_version_holds_that_and_answers_nothing_else(velo: Stack) -> None:
    with working(velo, "m@2", "--name", "named"):
        eventually(lambda: held(velo) == {"named": {"m@2": "ready"}})
        assert velo.get("/stat").json["workers"]["named"]["model_versions"] == ["m@2"]
        assert answered_by(velo, "m", "2") == "m@2"
        assert ask(velo, "m").json["code"] == "no_worker"
        told = ask(velo, "m", "1")
        assert (told.status, told.json["code"]) == (409, "not_serving")
        assert "m@1" in told.json["detail"]
        assert "served: 2" in told.json["detail"]
        with working(velo, "--name", "follower"):
            eventually(lambda: held(velo)["follower"] == {"m@1": "ready", OWN: "ready"})
            answers = [velo.transform("text") for _ in range(10)]
            assert {answer.headers["x-velo-worker"] for answer in answers} == {"follower"}
            assert ask(velo, "m", "2").headers["x-velo-worker"] == "named"
            # It takes no part in an activation, and m@2 has one worker more afterwards.
            decide(velo, "activate", "m@2", "--reason", "a test", "--wait")
            eventually(lambda: held(velo)["follower"] == {"m@2": "ready", OWN: "ready"})
            assert held(velo)["named"] == {"m@2": "ready"}
            decide(velo, "rollback", "m", "--reason", "a test", "--wait")
            eventually(lambda: held(velo)["follower"] == {"m@1": "ready", OWN: "ready"})
            assert held(velo)["named"] == {"m@2": "ready"}


def test_a_version_that_nobody_knows_is_a_clear_error(velo: Stack) -> None:
    ended = manage(velo.folder, "rqworker", "m@7", "--burst", **velo.knobs)
    assert ended.returncode == 1
    assert "There is no model version 'm@7'. Known are: m@" in ended.stderr
    assert "velo_models add" in ended.stderr
    assert ended.stderr.count("Traceback") == 0, ended.stderr
    [[state, note]] = rows(velo, "state", "note")
    assert state == "failed"
    assert "m@7" in note


def test_two_models_are_asked_at_their_own_addresses(velo: Stack) -> None:
    shell(velo, START + 'made("n", "1")\nplan.publish()')
    with working(velo):
        eventually(lambda: all_hold(velo, "m@1", "n@1", OWN, workers=1))
        assert answered_by(velo, "m") == "m@1"
        assert answered_by(velo, "n") == "n@1"
        assert answered_by(velo, "sleep") == OWN
        assert velo.transform("text").headers["x-velo-model"] == "m"
        told = ask(velo, "m", "2")
        assert (told.status, told.json["code"]) == (409, "not_serving")
        assert ask(velo, "m", "7").json["code"] == "unknown_version"
        assert ask(velo, "o").json["code"] == "unknown_model"
        decide(velo, "default", "n", "--reason", "a test")
        eventually(lambda: velo.transform("text").headers["x-velo-model"] == "n")


def test_without_memory_for_two_workers_switch_one_after_another(velo: Stack) -> None:
    count = 3
    with working(velo, count=count, **ROOM_FOR_ONE), redis_of(velo) as redis:
        eventually(lambda: all_hold(velo, "m@1", OWN, workers=count))
        with Load(velo, callers=4) as load:
            goes_on(load)
            decide(velo, "activate", "m@2", "--reason", "a test")
            together, give_up = [], time.monotonic() + 40
            while not all_hold(velo, "m@2", OWN, workers=count):
                old, new = leases(redis, "m@1"), leases(redis, "m@2")
                assert old or new
                together.append(old + new)
                for has in held(velo).values():
                    assert "failed" not in has.values()
                    assert list(has.values()).count("ready") <= 2, has
                assert time.monotonic() < give_up, (held(velo), latest_change(velo))
            assert min(together) >= count - 1  # one at a time
            assert latest_change(velo)[0] == "done"
            goes_on(load)
        assert set(load.outcomes) == {RIGHT}, load.outcomes
        assert velo.transform("text").headers["x-velo-model-version"] == "m@2"


def test_a_single_worker_without_memory_for_two_waits_and_says_why(velo: Stack) -> None:
    knobs = {**ROOM_FOR_ONE, "VELO_ACTIVATION_TIMEOUT": 8}
    with working(velo, **knobs), Load(velo, callers=2) as load:
        assert all_hold(velo, "m@1", OWN, workers=1)
        decide(velo, "activate", "m@2", "--reason", "a test")
        [waiting] = eventually(
            lambda: [one for one in held(velo).values() if one.get("m@2") == "waiting"]
        )
        assert waiting["m@1"] == "ready"
        assert "0 of 1 workers have it, 1 wait for memory" in decide(velo, "list")
        outcome, detail = eventually(
            lambda: (it := latest_change(velo))[0] != "pending" and it, seconds=30
        )
        assert outcome == "failed"
        assert detail == "Not done in time: 0 of 1 workers have it, 1 wait for memory."
        eventually(lambda: all_hold(velo, "m@1", OWN, workers=1))
        goes_on(load, 20)
        load.stop()
        assert set(load.outcomes) == {RIGHT}
        assert velo.transform("text").headers["x-velo-model-version"] == "m@1"


def test_what_waits_for_memory_can_be_cancelled(velo: Stack) -> None:
    with working(velo, **ROOM_FOR_ONE):
        eventually(lambda: all_hold(velo, "m@1", OWN, workers=1))
        decide(velo, "activate", "m@2", "--reason", "a test")
        eventually(lambda: "waiting" in json.dumps(held(velo)))
        assert "Wait until that is over, or cancel it" in refused(
            velo, "activate", "m@2", "--reason", "another"
        )
        decide(velo, "cancel", "m")
        assert latest_change(velo)[0] == "cancelled"
        eventually(lambda: all_hold(velo, "m@1", OWN, workers=1))


ENQUEUE = """
import json
import django_rq
jobs = [django_rq.get_queue("default").enqueue("operator.add", n, 1) for n in range(3)]
print(json.dumps([job.id for job in jobs]))
"""
RESULTS = """
from rq.job import Job
from workers.broker.connection import connection
from workers.broker.wire import JSONSerializer
jobs = [Job.fetch(id, connection(), JSONSerializer) for id in {ids!r}]
print([(job.get_status().value, job.return_value()) for job in jobs])
"""


@pytest.mark.parametrize("words", [(), ("m@1", "default")])
def test_plain_jobs_run_beside(velo: Stack, words: tuple[str, ...]) -> None:
    with working(velo, *words), Load(velo, callers=2) as load:
        goes_on(load, 20)
        ids = json.loads(shell(velo, ENQUEUE))
        finished = str([("finished", number + 1) for number in range(3)])
        eventually(lambda: shell(velo, RESULTS.format(ids=ids)).strip() == finished)
        goes_on(load, 20)
        load.stop()
        assert set(load.outcomes) == {RIGHT}


def test_rq_lists_the_queues_of_versions(velo: Stack) -> None:
    with working(velo, "m@1", "m@2", "default", "--name", "both"):
        for version in ("1", "2"):
            assert answered_by(velo, "m", version) == f"m@{version}"
        told = velo.manage("rqstats", "--json")
        assert told.returncode == 0, told.stderr
        queues = {one["name"]: one for one in json.loads(told.stdout)["queues"]}
        assert queues.keys() >= {"default", "m@1", "m@2"}
        for version in ("m@1", "m@2"):
            assert queues[version]["workers"] == 1
    assert table(velo, "SELECT queues FROM workers_worker WHERE id = 'both'") == [
        ("m@1,m@2,default",)
    ]

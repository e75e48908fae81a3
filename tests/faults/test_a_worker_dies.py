"""Whatever kills a worker, every request that was accepted is answered, and rightly."""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis import Redis

from tests.faults.load import RIGHT, SLOW, Load
from tests.stack import Answer, Stack, stack
from tests.test_workers import rows, start_worker
from tests.waiting import eventually


@pytest.fixture
def velo(tmp_path: Path) -> Iterator[Stack]:
    """With two workers and a model that can be told to go wrong."""
    with stack(
        tmp_path,
        workers=2,
        DJANGO_SETTINGS_MODULE="tests.faults.settings",
        VELO_SLEEP_MS=SLOW,
        VELO_JOB_TIMEOUT=2,
    ) as running:
        yield running


def workers(velo: Stack) -> int:
    answer = velo.get("/health/ready")
    return int(answer.json["workers"]) if answer.status == 200 else 0


def goes_on(load: Load, more: int = 100) -> None:
    """Until so many more have been answered rightly."""
    before = load.right()
    eventually(lambda: load.right() >= before + more)


def embed(velo: Stack, texts: list[str]) -> Answer:
    """A request with many inputs."""
    body = json.dumps({"input": texts}).encode()
    return velo.request("POST", "/v1/embeddings", body, {"Content-Type": "application/json"})


def test_a_killed_worker_costs_no_answer(velo: Stack) -> None:
    with Load(velo) as load:
        for _ in range(3):
            goes_on(load)
            os.kill(velo.pids("rqworker")[0], signal.SIGKILL)
            goes_on(load)
            eventually(lambda: workers(velo) == 2)
    assert set(load.outcomes) == {RIGHT}
    lost = [row for row in rows(velo, "health", "note", "lost_at") if row[0] == "lost"]
    assert len(lost) == 3
    assert all("its process is gone" in note and at for _, note, at in lost)


def test_all_workers_killed_and_one_started(tmp_path: Path) -> None:
    with stack(tmp_path, workers=0, VELO_PREDICTOR="sleep", VELO_SLEEP_MS=SLOW) as velo:
        first = [start_worker(velo) for _ in range(2)]
        eventually(lambda: workers(velo) == 2)
        with Load(velo) as load:
            goes_on(load)
            for process in first:
                process.kill()
                process.wait()
            second = start_worker(velo)
            goes_on(load)
        second.terminate()
        second.wait(90)
        # Whoever came while nobody was alive was told so; whoever waited already was answered.
        assert set(load.outcomes) <= {RIGHT, "no_worker"}
        assert load.outcomes[RIGHT] > 200


def test_a_worker_elsewhere_is_missed_when_its_lease_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another place its process can't be seen."""
    with stack(tmp_path, VELO_PREDICTOR="sleep", VELO_SLEEP_MS=SLOW, VELO_LEASE=2) as velo:
        elsewhere = start_worker(velo, DJANGO_SETTINGS_MODULE="tests.faults.elsewhere")
        eventually(lambda: workers(velo) == 2)
        with Load(velo) as load:
            goes_on(load)
            elsewhere.kill()
            elsewhere.wait()
            eventually(lambda: "its lease ran out" in str(rows(velo, "note")))
            goes_on(load)
        assert set(load.outcomes) == {RIGHT}
        assert max(one.seconds for one in load.asked) < 15


def test_a_worker_that_was_stopped_and_wakes_up(tmp_path: Path) -> None:
    """Its jobs were given away meanwhile; it can't answer them twice, and works on."""
    with (
        stack(tmp_path, workers=2, VELO_PREDICTOR="sleep", VELO_SLEEP_MS=SLOW) as velo,
        Load(velo) as load,
    ):
        goes_on(load)
        [stopped, _] = velo.pids("rqworker")
        os.kill(stopped, signal.SIGSTOP)
        eventually(lambda: "its lease ran out" in str(rows(velo, "note")))
        goes_on(load)
        os.kill(stopped, signal.SIGCONT)
        eventually(lambda: workers(velo) == 2)
        goes_on(load)
        load.stop()
        assert set(load.outcomes) == {RIGHT}
        assert stopped in velo.pids("rqworker")
        assert {row[0] for row in rows(velo, "health")} <= {"idle", "busy"}
        assert "it is registered again" in velo.output()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hang in Python", "poisonous"),
        ("hang in C", "poisonous"),
        ("hang in C, with the lock", "poisonous"),
        ("segfault", "poisonous"),
        ("kill", "poisonous"),
        ("use up memory", "model_failed"),
        ("raise", "model_failed"),
    ],
)
def test_a_text_that_breaks_the_model_is_the_only_one_that_fails(
    velo: Stack, text: str, said: str
) -> None:
    with Load(velo) as load, ThreadPoolExecutor(1) as thread:
        goes_on(load)
        answer = thread.submit(velo.transform, f"{text}: it does")
        told = answer.result(60)
        eventually(lambda: workers(velo) == 2)
        goes_on(load)
    assert told.status == 500
    assert told.json["code"] == said
    assert set(load.outcomes) == {RIGHT}
    kept = velo.manage("shell", "--verbosity", "0", "-c", HISTORY + told.json["job_id"] + "')")
    assert kept.stdout.split()[0] == "failed", kept.stderr
    if said == "poisonous":
        assert kept.stdout.count("\n20") == 2, kept.stdout  # a line for each crash


@pytest.mark.parametrize(
    ("text", "said"), [("hang in C", "poisonous"), ("kill", "poisonous"), ("raise", "model_failed")]
)
def test_a_text_that_breaks_the_model_is_named_among_the_texts_of_its_request(
    velo: Stack, text: str, said: str
) -> None:
    """They share jobs; only what is to blame fails, and the worker's other requests don't."""
    texts = [f"text {number}" for number in range(40)]
    with Load(velo) as load, ThreadPoolExecutor(2) as threads:
        goes_on(load)
        broken = [*texts[:17], f"{text}: it does", *texts[17:]]
        whole = threads.submit(embed, velo, texts)
        told = threads.submit(embed, velo, broken).result(60)
        assert whole.result(60).status == 200
        eventually(lambda: workers(velo) == 2)
        goes_on(load)
    assert told.status == 500
    assert told.json["error"]["code"] == said
    assert told.json["error"]["message"].startswith("input[17]: ")
    assert len(whole.result().json["data"]) == 40
    assert set(load.outcomes) == {RIGHT}


HISTORY = """
from rq.job import Job
from workers.broker.connection import connection
from workers.broker.wire import JSONSerializer
def show(id):
    job = Job.fetch(id, connection(), JSONSerializer)
    assert id in job.failed_job_registry
    print(job.get_status().value)
    print(job.latest_result().exc_string)
show('"""


def test_a_worker_that_is_told_to_stop_finishes_what_it_has(tmp_path: Path) -> None:
    with stack(tmp_path, VELO_PREDICTOR="sleep", VELO_SLEEP_MS=SLOW) as velo, Load(velo) as load:
        for more in range(10):
            leaving = start_worker(velo)
            eventually(lambda: workers(velo) == 2)
            goes_on(load, more)
            leaving.terminate()
            assert leaving.wait(90) == 0
    assert set(load.outcomes) == {RIGHT}


def test_a_worker_that_cannot_start_says_why_and_does_not_spin(tmp_path: Path) -> None:
    with stack(tmp_path, workers=0) as velo:
        wrong = {"VELO_MODEL_PATH": tmp_path / "nowhere"}
        pool = start_worker(velo, "rqworker-pool", "default", "--num-workers", "1", **wrong)
        eventually(lambda: "nowhere is not a folder" in velo.get("/health/ready").json["detail"])
        eventually(lambda: len(rows(velo, "id")) >= 3, seconds=60)
        states = [state for [state] in rows(velo, "state")]
        assert set(states[:-1]) == {"failed"}
        assert "is not a folder" in rows(velo, "note")[0][0]
        pool.terminate()
        assert pool.wait(90) == 0


def test_a_caller_who_waits_for_less_than_the_model_takes_harms_no_worker(tmp_path: Path) -> None:
    with stack(tmp_path, DJANGO_SETTINGS_MODULE="tests.faults.settings") as velo:
        pids = velo.pids("rqworker")
        body, kind = b'"take time in C"', {"Content-Type": "application/json"}
        hasty = {**kind, "X-Request-Timeout": "0.5"}
        assert velo.request("POST", "/transform", body, hasty).status == 504
        assert velo.transform("text").status == 200
        assert velo.pids("rqworker") == pids


def test_what_others_write_among_the_workers_stops_nobody(tmp_path: Path) -> None:
    with stack(tmp_path, workers=2, VELO_PREDICTOR="sleep", VELO_SLEEP_MS=SLOW) as velo:
        with Redis(unix_socket_path=str(tmp_path / "valkey.sock")) as redis:
            for row, entry in (("a", "no JSON"), ("b", "[]"), ("c", '{"queues": []}')):
                redis.hset("velo:workers", row, entry)
        with Load(velo) as load:
            goes_on(load)
            os.kill(velo.pids("rqworker")[0], signal.SIGKILL)
            goes_on(load)
            eventually(lambda: workers(velo) == 2)
        assert set(load.outcomes) == {RIGHT}


def test_a_worker_takes_the_place_of_one_of_the_same_name_that_died_elsewhere(
    tmp_path: Path,
) -> None:
    knobs = {"VELO_PREDICTOR": "sleep", "VELO_SLEEP_MS": SLOW, "VELO_LEASE": 2}
    with stack(tmp_path, workers=0, **knobs) as velo:
        words = ("rqworker", "--name", "pod-0")
        elsewhere = {"DJANGO_SETTINGS_MODULE": "tests.faults.elsewhere"}
        for _ in range(2):
            pod = start_worker(velo, *words, **elsewhere)
            try:
                eventually(lambda: velo.transform("a").status == 200)
                answer = velo.transform("a")
                assert (answer.status, answer.headers["x-velo-worker"]) == (200, "pod-0")
            finally:
                pod.kill()
                pod.wait()

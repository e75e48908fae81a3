"""A worker's life: it loads, is ready, works, beats, and leaves in good order."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.letters import Letters
from tests.orm import database_of
from tests.stack import ROOT, Stack, descendants, environment, manage, stack
from tests.waiting import eventually
from workers.broker import neighbours
from workers.broker.connection import connection, queue
from workers.host import machine
from workers.models import Worker
from workers.runtime.worker import InferenceWorker


def rows(velo: Stack, *fields: str) -> list[list[Any]]:
    """Worker rows, oldest first."""
    with database_of(velo) as alias:
        found = Worker.objects.using(alias).with_health().order_by("started")
        return [list(row) for row in found.values_list(*fields)]


def start_worker(velo: Stack, *words: str, **knobs: object) -> subprocess.Popen[bytes]:
    """A worker in a second terminal."""
    with velo.log_beside.open("ab") as log:
        worker = subprocess.Popen(
            [sys.executable, "manage.py", *(words or ("rqworker",)), "--skip-checks"],
            cwd=ROOT,
            env=environment(velo.folder, **{**velo.knobs, **knobs}),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    velo.beside.append(worker)
    return worker


def variables(pid: int) -> list[str]:
    """Of the environment that the C library of a process has found at its start."""
    return Path(f"/proc/{pid}/environ").read_text().split("\0")


def alive(velo: Stack) -> int:
    return len(velo.get("/stat").json["workers"])


def test_a_second_worker_joins_and_leaves_while_requests_are_answered(tmp_path: Path) -> None:
    with stack(tmp_path, VELO_PREDICTOR="sleep") as velo:
        second = start_worker(velo)
        eventually(lambda: velo.get("/health/ready").json["workers"] == 2)
        answered_by: set[str] = set()
        eventually(
            lambda: (
                answered_by.add(velo.transform("a").headers["x-velo-worker"])
                or len(answered_by) == 2
            )
        )
        assert "MALLOC_ARENA_MAX=1" in variables(second.pid)
        second.send_signal(signal.SIGTERM)
        while second.poll() is None:
            assert velo.transform("b").status == 200
        assert second.returncode == 0
        assert alive(velo) == 1
        (first,), (second_row,) = rows(velo, "health")
        assert first in ("idle", "busy")
        assert second_row == "stopped"


def test_a_job_in_hand_is_finished_before_the_worker_leaves(tmp_path: Path) -> None:
    with stack(tmp_path, VELO_PREDICTOR="sleep", VELO_SLEEP_MS=1500) as velo:
        caller = subprocess.Popen(
            ["python3", "-c", _CALLER, velo.base], stdout=subprocess.PIPE, text=True
        )
        [pid] = velo.pids("rqworker")
        eventually(lambda: "busy" in str(rows(velo, "state")))
        os.kill(pid, signal.SIGTERM)
        assert caller.communicate(timeout=20)[0].strip() == "200"


_CALLER = """
import sys, urllib.request
request = urllib.request.Request(sys.argv[1] + "/transform", b'"a"',
                                 {"Content-Type": "application/json"})
print(urllib.request.urlopen(request).status)
"""


def test_a_killed_worker_is_shown_as_lost(tmp_path: Path) -> None:
    with stack(tmp_path, VELO_PREDICTOR="sleep", VELO_LEASE=2) as velo:
        second = start_worker(velo, "rqworker", "--name", "victim")
        eventually(lambda: alive(velo) == 2)
        second.kill()
        second.wait()
        eventually(lambda: alive(velo) == 1)
        eventually(lambda: velo.get("/health/ready").json["workers"] == 1)
        assert ["victim", "lost"] in rows(velo, "id", "health")


def test_last_seen_stays_fresh_while_the_model_computes(tmp_path: Path) -> None:
    with stack(tmp_path, VELO_PREDICTOR="sleep", VELO_SLEEP_MS=4000, VELO_LEASE=2) as velo:
        caller = subprocess.Popen(["python3", "-c", _CALLER, velo.base], stdout=subprocess.DEVNULL)

        def answered() -> bool:
            # 2 s of silence would make it lost, and /stat would leave it out.
            assert alive(velo) == 1
            return caller.poll() is not None

        eventually(answered)
        assert caller.returncode == 0


def test_the_pool_of_django_rq_runs_inference_workers(tmp_path: Path) -> None:
    with stack(tmp_path, workers=0, VELO_PREDICTOR="sleep") as velo:
        pool = start_worker(velo, "rqworker-pool", "default", "--num-workers", "2")
        eventually(lambda: velo.get("/health/ready").status == 200)
        eventually(lambda: velo.get("/health/ready").json["workers"] == 2)
        assert velo.transform("a").status == 200
        assert all("MALLOC_ARENA_MAX=1" in variables(pid) for pid in descendants(pool.pid))
        pool.send_signal(signal.SIGTERM)
        assert pool.wait(90) == 0
        assert alive(velo) == 0


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_the_model_loads_leaves_a_stopped_row(
    tmp_path: Path, signum: signal.Signals
) -> None:
    with stack(tmp_path, workers=0) as velo:
        worker = start_worker(velo)
        eventually(lambda: "loading" in str(rows(velo, "state")))
        worker.send_signal(signum)
        worker.wait(90)
        assert rows(velo, "state") == [["stopped"]]


def test_threads_are_shared_by_the_workers_of_a_machine(
    redis: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 8)
    worker = InferenceWorker([queue()], connection=connection())
    assert worker._parts.threads.count == 8
    worker._parts.row.report()
    for number in range(3):
        neighbours.count(str(number), machine.shares())
    neighbours.count("elsewhere", "other cores")
    worker._parts.row.report()
    assert worker._parts.threads.count == 2
    neighbours.leave("0", machine.shares())
    neighbours.leave("1", machine.shares())
    worker._parts.row.report()
    assert worker._parts.threads.count == 4


def test_a_neighbour_that_is_silent_counts_no_more(
    redis: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(neighbours, "COUNTS_FOR", 0.1)
        assert neighbours.count("dead", "cores") == 1
    eventually(lambda: neighbours.count("w", "cores") == 1)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_that_a_model_swallows_is_not_forgotten(
    redis: None,
    letters: Letters,
    transactional_db: None,
    monkeypatch: pytest.MonkeyPatch,
    signum: signal.Signals,
) -> None:
    def swallow() -> None:
        with suppress(SystemExit, KeyboardInterrupt):
            os.kill(os.getpid(), signum)

    monkeypatch.setattr(letters, "warm_up", swallow)
    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    worker = InferenceWorker([queue()], name="w", connection=connection())
    try:
        with pytest.raises(SystemExit):
            worker.work()
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
    assert Worker.objects.get(pk="w").state == Worker.State.STOPPED


@pytest.fixture(scope="module")
def velo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Without workers."""
    with stack(tmp_path_factory.mktemp("velo"), workers=0) as running:
        yield running


class TestAWrongModelFolder:
    """The worker refuses to start, names the folder and the missing file."""

    def start(self, velo: Stack, model: Path) -> str:
        before = len(rows(velo, "id"))
        words = ("rqworker", "--burst", "--skip-checks")
        ended = manage(velo.folder, *words, VELO_MODEL_PATH=model)
        assert ended.returncode == 1
        assert str(model) in ended.stderr
        [[state, note]] = rows(velo, "state", "note")[before:]
        assert state == "failed"
        assert note in ended.stderr
        assert velo.get("/health/ready").json["code"] == "no_worker"
        return ended.stderr

    def test_no_such_folder(self, velo: Stack, tmp_path: Path) -> None:
        assert "is not a folder" in self.start(velo, tmp_path / "nowhere")

    @pytest.mark.parametrize(
        ("missing", "named"),
        [
            ("config.json", "config.json"),
            ("pytorch_model.bin", "model.safetensors or pytorch_model.bin"),
            ("tokenizer.json", "tokenizer.json or vocab.txt"),
        ],
    )
    def test_a_missing_file(
        self, velo: Stack, tmp_path: Path, tiny_model: Path, missing: str, named: str
    ) -> None:
        model = tmp_path / "model"
        model.mkdir()
        for path in tiny_model.iterdir():
            if path.name != missing:
                (model / path.name).symlink_to(path)
        assert f"lacks {named}" in self.start(velo, model)

    def test_truncated_weights(self, velo: Stack, tmp_path: Path, tiny_model: Path) -> None:
        model = tmp_path / "model"
        model.mkdir()
        for path in tiny_model.iterdir():
            content = path.read_bytes()
            whole = len(content) if path.suffix == ".json" else len(content) // 2
            (model / path.name).write_bytes(content[:whole])
        assert "can't be loaded" in self.start(velo, model)

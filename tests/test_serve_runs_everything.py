"""`manage.py serve`: one command starts the whole system, keeps it alive, and ends all of it."""

import os
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis import Redis
from rq import Queue

from tests import template
from tests.stack import Stack, free_port, manage, stack
from tests.waiting import eventually
from workers.broker.wire import JSONSerializer


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(tmp_path_factory.mktemp("velo"), VELO_PREDICTOR="sleep") as velo:
        yield velo


@pytest.fixture
def velo(running: Stack) -> Stack:
    """It answers, whatever the test before has done to it."""
    running.wait_until_ready()
    return running


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def started(folder: Path, name: str = "sleep@1.0.0") -> int:
    """How many jobs of a queue a worker has in hand."""
    with Redis(unix_socket_path=str(folder / "valkey.sock")) as client:
        return client.zcard(f"rq:wip:{name}")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_all_of_it(tmp_path: Path, signum: signal.Signals) -> None:
    with stack(tmp_path, workers=2, VELO_PREDICTOR="sleep") as velo:
        pids = velo.pids()
        assert len(pids) >= 5  # Valkey, the web server and its process, two workers
        for pid in velo.pids("rqworker"):
            assert b"MALLOC_ARENA_MAX=1\0" in Path(f"/proc/{pid}/environ").read_bytes()
        assert velo.stop(signum) == 0
        assert not any(map(alive, pids))
        assert "stopped" in velo.output()


def test_no_process_and_no_caller_outlives_a_killed_serve(tmp_path: Path) -> None:
    knobs = {"VELO_PREDICTOR": "sleep", "VELO_SLEEP_MS": 8000, "VELO_REQUEST_TIMEOUT": 300}
    with stack(tmp_path, **knobs) as velo, ThreadPoolExecutor() as callers:
        pids, workers = velo.pids(), velo.pids("rqworker")
        answer = callers.submit(velo.transform, "in hand")
        eventually(lambda: started(tmp_path))
        velo.process.kill()
        assert answer.result(60).status == 503
        assert "The web server was killed" in answer.result().json["detail"]
        others = [pid for pid in pids if pid not in workers]
        eventually(lambda: not any(map(alive, others)), seconds=5)
        eventually(lambda: not any(map(alive, pids)), seconds=30)


def test_what_is_in_progress_is_finished_before_it_stops(tmp_path: Path) -> None:
    knobs = {"VELO_PREDICTOR": "sleep", "VELO_SLEEP_MS": 4500}
    with stack(tmp_path, workers=2, **knobs) as velo, ThreadPoolExecutor() as callers:
        with Redis(unix_socket_path=str(tmp_path / "valkey.sock")) as client:
            Queue("default", connection=client, serializer=JSONSerializer).enqueue(time.sleep, 9)
        eventually(lambda: started(tmp_path, "default"))
        answer = callers.submit(velo.transform, "in hand")
        eventually(lambda: started(tmp_path))
        assert velo.stop() == 0
        assert answer.result().status == 200
        assert "stopping: requests and jobs in progress are finished first" in velo.output()
        assert "killed" not in velo.output()


def test_a_second_ctrl_c_ends_it_at_once(tmp_path: Path) -> None:
    knobs = {"VELO_PREDICTOR": "sleep", "VELO_SLEEP_MS": 300_000}
    knobs |= {"VELO_JOB_TIMEOUT": 300, "VELO_REQUEST_TIMEOUT": 300}
    with stack(tmp_path, **knobs) as velo, ThreadPoolExecutor() as callers:
        pids = velo.pids()
        callers.submit(velo.transform, "in hand")
        eventually(lambda: started(tmp_path))
        velo.process.send_signal(signal.SIGINT)
        eventually(lambda: "Ctrl-C again ends them now" in velo.output())
        assert velo.stop(signal.SIGINT) == 0
        assert "ending now" in velo.output()
        assert not any(map(alive, pids))


def test_the_first_start_makes_an_admin_and_a_key_the_second_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template, "SHARED", "")  # nothing is laid out
    with stack(tmp_path, VELO_PREDICTOR="sleep") as velo:
        password = velo.password()
        key = (tmp_path / "secret-key").read_text()
        assert (tmp_path / "secret-key").stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(tmp_path / "velo.sqlite3") as database:
        [(name, stored)] = database.execute("SELECT username, password FROM auth_user").fetchall()
    database.close()
    assert name == "admin"
    assert stored.startswith("pbkdf2_")
    assert password not in stored
    velo.log.unlink()
    with stack(tmp_path, VELO_PREDICTOR="sleep") as again:
        assert "password" not in again.output()
        assert (tmp_path / "secret-key").read_text() == key
        assert f"{again.base}/docs" in again.output()
        assert f"{again.base}/admin/" in again.output()


def test_a_job_left_in_the_queue_survives_a_restart(tmp_path: Path) -> None:
    """The append-only file: what was enqueued before the stop is done after it."""
    with stack(tmp_path, workers=0, VELO_PREDICTOR="sleep") as velo:
        enqueued = velo.manage("rqenqueue", "operator.add", "2", "3")
        assert enqueued.returncode == 0, enqueued.stderr
        assert velo.get("/stat").json["queue_length"] == 1
    with stack(tmp_path, VELO_PREDICTOR="sleep") as again:
        eventually(lambda: again.get("/stat").json["queue_length"] == 0)


def test_a_taken_port_is_an_error_at_once(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ended = manage(tmp_path, "serve", PORT=port)
    assert ended.returncode == 1
    assert f"Port {port} on 127.0.0.1 is used by another program" in ended.stderr
    assert "make run PORT=" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_two_cannot_share_a_folder(velo: Stack) -> None:
    ended = manage(velo.folder, "serve", PORT=free_port())
    assert ended.returncode == 1
    assert "Another `manage.py serve` runs" in ended.stderr
    assert "VELO_VAR" in ended.stderr


def test_a_worker_that_dies_is_started_again(velo: Stack) -> None:
    [pid] = velo.pids("rqworker")
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: velo.pids("rqworker") not in ([], [pid]))
    eventually(lambda: velo.transform("again").status == 200)
    assert "worker-1 | ended with SIGKILL; starting it again in 1 s" in velo.output()


def test_a_web_server_that_dies_is_started_again(velo: Stack) -> None:
    for pid in velo.pids("granian"):
        os.kill(pid, signal.SIGKILL)
    velo.wait_until_ready()
    assert velo.transform("again").status == 200


def test_a_web_server_whose_first_process_dies_is_started_again(velo: Stack) -> None:
    first, *others = velo.pids("granian")
    os.kill(first, signal.SIGKILL)
    eventually(lambda: not any(map(alive, others)))  # they would keep the port
    velo.wait_until_ready()
    assert velo.transform("again").status == 200


def test_a_redis_that_does_not_answer_is_a_clear_error(tmp_path: Path) -> None:
    url = f"redis://:secret@127.0.0.1:{free_port()}/0"
    velo = Stack(tmp_path, REDIS_URL=url, VELO_PREDICTOR="sleep")
    assert velo.process.wait(60) == 1
    assert "No Redis or Valkey answers at redis://127.0.0.1" in velo.output()
    assert "secret" not in velo.output()


def test_every_line_says_which_process_printed_it(velo: Stack) -> None:
    lines = velo.output().splitlines()
    assert any(line.startswith("worker-1 | ") and "ready with sleep" in line for line in lines)


def test_other_commands_find_the_running_valkey(tmp_path: Path) -> None:
    with stack(tmp_path, VELO_PREDICTOR="sleep") as velo:
        velo.transform("a")
        stats = velo.manage("rqstats", "--json")
        assert stats.returncode == 0, stats.stderr
        assert '"workers": 1' in stats.stdout

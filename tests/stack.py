"""A whole Velo: `manage.py serve` on a free port, in a folder of its own."""

import fcntl
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests import template
from tests.waiting import SLACK, eventually

ROOT = template.ROOT
PORTS = range(20_000, 30_000)  # below those that clients get
SHOWN = 10_000  # characters of its log, where a test fails
# Of the environment.
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "TESTS_SHARED")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def environment(folder: Path, **knobs: object) -> dict[str, str]:
    """Of a process that has only what `knobs` say, and coverage where the tests are measured."""
    kept = {k: v for k, v in os.environ.items() if k in KEPT or k.startswith(("COVERAGE_", "COV_"))}
    return {**kept, "VELO_VAR": str(folder), **{k: str(v) for k, v in knobs.items()}}


def manage(folder: Path, *words: str, **knobs: object) -> subprocess.CompletedProcess[str]:
    """Run a management command to its end."""
    return subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=ROOT,
        env=environment(folder, **knobs),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def free_port() -> int:
    """That no other test gets, and the kernel gives to no client meanwhile."""
    folder = Path(template.SHARED or tempfile.gettempdir())
    with (folder / f"velo-tests-port-{os.getuid()}").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        port = int(file.read() or random.choice(PORTS))  # nosec B311 # no secret
        while True:
            port = port + 1 if port + 1 in PORTS else PORTS[0]
            with socket.socket() as probe, suppress(OSError):
                probe.bind(("127.0.0.1", port))
                break
        file.truncate(0)
        file.write(str(port))
    return port


def request(
    port: int,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    http = HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        http.request(method, path, body, dict(headers or {}))
        response = http.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, response.read())
    finally:
        http.close()


class Stack:
    """One running `manage.py serve`. It finds in its folder what a first start makes there."""

    def __init__(self, folder: Path, **knobs: object) -> None:
        self.folder = folder
        template.lay_out(folder, database="DATABASE_URL" not in knobs)
        self.knobs = knobs
        self.port = free_port()
        self.beside: list[subprocess.Popen[bytes]] = []  # what a test has started in its folder
        self.log = folder / "serve.log"
        self.log_beside = folder / "beside.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "serve"],
                cwd=ROOT,
                env=environment(folder, PORT=self.port, **knobs),
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def base(self) -> str:
        return f"http://localhost:{self.port}"

    def output(self) -> str:
        return self.log.read_text()

    def wait_until_ready(self, workers: int = 1) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.output()
            try:
                answer = self.get("/health/ready")
            except OSError:
                return False
            if not workers:
                return answer.status == 503
            return answer.status == 200 and answer.json["workers"] >= workers

        eventually(ready, seconds=60)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        return request(self.port, method, path, body, headers)

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def post(self, body: bytes, content_type: str = "application/json") -> Answer:
        return self.request("POST", "/transform", body, {"Content-Type": content_type})

    def transform(self, text: str) -> Answer:
        return self.post(json.dumps(text).encode())

    def manage(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A management command beside the running processes, as in a second terminal."""
        return manage(self.folder, *words, **self.knobs)

    def password(self) -> str:
        found = re.search(r"password (\S+)", self.output())
        assert found or template.SHARED, self.output()
        return found[1] if found else template.password()

    def pids(self, what: str = "") -> list[int]:
        """Of the processes under this one, at any depth, whose command line has `what`."""
        return [pid for pid in descendants(self.process.pid) if what in command_line(pid)]

    def stop(self, signum: int = signal.SIGTERM, seconds: float = 10.0) -> int:
        """Its exit code. Fails if it takes longer than `seconds`, or SLACK times as long on a
        machine that is busy."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
        try:
            return self.process.wait(seconds * SLACK)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@contextmanager
def stack(folder: Path, workers: int = 1, **knobs: object) -> Iterator[Stack]:
    """A ready Velo, stopped at the end."""
    running = Stack(folder, WORKERS=workers, **knobs)
    try:
        running.wait_until_ready(workers)
        yield running
    except BaseException:
        for log in filter(Path.exists, (running.log, running.log_beside)):
            print(log.read_text()[-SHOWN:])  # pytest shows it beside the failure
        raise
    finally:
        for process in running.beside:  # those that a test which fails has left
            if process.poll() is None:
                process.kill()
                process.wait()
        running.stop()


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def resident_megabytes(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


def descendants(pid: int) -> list[int]:
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):  # of each of its threads
        with suppress(OSError):
            found += [int(child) for child in children.read_text().split()]
    return found + [deeper for child in found for deeper in descendants(child)]

"""A whole Velo under the load of callers in a process of their own."""

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from tests import models
from tests.stack import ROOT, Stack, command_line, environment, stack

KINDS = {"web": "granian", "worker": "rqworker", "Redis": "valkey"}  # by their command lines


@dataclass(frozen=True)
class Figures:
    """Of one load."""

    callers: int
    requests: int
    answered: int  # with those of the warm-up
    rate: float  # requests a second
    p50: float  # seconds, as the others
    p95: float
    p99: float
    errors: int
    cpu: dict[str, float]  # seconds of processor time that each kind of process took a request

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Server(Protocol):
    """What is loaded, on a port of this machine."""

    @property
    def port(self) -> int: ...

    def pids(self) -> list[int]:
        """Of its processes."""


def load(
    server: Server, callers: int, seconds: float, *words: str, kinds: Mapping[str, str] = KINDS
) -> Figures:
    """`words`: more for `benchmarks.load`; `kinds`: of its processes, by their command lines."""
    before = _processor_time(server, kinds)
    call = [sys.executable, "-m", "benchmarks.load", str(server.port), str(callers), str(seconds)]
    call += words
    found = json.loads(subprocess.run(call, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)
    times = found["times"]
    after = _processor_time(server, kinds)
    spent = {kind: after[kind] - before.get(kind, 0.0) for kind in after}
    spent["callers"] = found["processor"]

    def quantile(share: float) -> float:
        return float(times[min(int(share * len(times)), len(times) - 1)])

    return Figures(
        callers=callers,
        requests=len(times),
        answered=found["all"],
        rate=len(times) / found["seconds"],
        p50=quantile(0.50),
        p95=quantile(0.95),
        p99=quantile(0.99),
        errors=found["errors"],
        cpu={kind: taken / found["all"] for kind, taken in spent.items()},
    )


def _processor_time(server: Server, kinds: Mapping[str, str]) -> dict[str, float]:
    """Seconds so far, by kind of process."""
    found: dict[str, float] = defaultdict(float)
    for pid in server.pids():
        words = command_line(pid)
        for kind, sign in kinds.items():
            if sign in words:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks = int(fields[11]) + int(fields[12])  # user and system, see proc(5)
                found[kind] += ticks / os.sysconf("SC_CLK_TCK")
    return found


@contextmanager
def velo(workers: int, **knobs: object) -> Iterator[Stack]:
    with _folder() as folder, stack(folder, workers, **knobs) as running:
        yield running


@contextmanager
def stock(**knobs: object) -> Iterator[Stack]:
    """The same, with a worker of RQ's own instead of ours."""
    with _folder() as folder, stack(folder, workers=0, **knobs) as running:
        worker = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.stock_worker"],
            cwd=ROOT,
            env=environment(folder, **knobs),
        )
        try:
            running.wait_until_ready(1)
            yield running
        finally:
            worker.terminate()
            worker.wait()


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="velo-bench-") as folder:
        yield Path(folder)


@contextmanager
def served_models() -> Iterator[dict[str, dict[str, object]]]:
    """Their names, and the settings with which Velo serves them."""
    with _folder() as folder:
        tiny = models.rubert_tiny2_shaped(folder / "rubert-tiny2-shaped")
        yield {"all-MiniLM-L6-v2": {}, "rubert-tiny2-shaped": {"VELO_MODEL_PATH": tiny}}

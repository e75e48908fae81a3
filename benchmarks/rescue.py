"""How long a job waits for another worker when its own is killed.

`python -m benchmarks.rescue` kills one of two workers under load, again and again: once where its
neighbour sees that the process is gone, once where only its lease tells. Writes rescue.json and
rescue.md into var/benchmarks.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from redis import Redis

from benchmarks import report
from tests.faults.load import RIGHT, Load
from tests.stack import ROOT, Stack, environment, stack
from tests.waiting import eventually

KILLS, CALLERS = 20, 16
POLL = 0.002  # seconds


def measure(velo: Stack, redis: Redis, settings: str) -> tuple[list[float], dict[str, int]]:
    """Seconds from SIGKILL until another worker had each job; the outcomes of the load."""
    words = [sys.executable, "manage.py", "rqworker"]
    knobs = {**velo.knobs, "DJANGO_SETTINGS_MODULE": settings}
    found: list[float] = []

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            words, cwd=ROOT, env=environment(velo.folder, **knobs), stderr=subprocess.DEVNULL
        )

    workers = [start(), start()]
    try:
        eventually(lambda: ready(velo) == 2, seconds=60)
        with Load(velo, CALLERS) as load:
            for _ in range(KILLS):
                enough = load.right() + 200
                eventually(partial(_have_come, load, enough), seconds=60)
                found.append(_kill(workers.pop(0), redis))
                workers.append(start())
                eventually(lambda: ready(velo) == 2, seconds=60)
        return found, dict(load.outcomes)
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()


def _have_come(load: Load, answers: int) -> bool:
    return load.right() >= answers


def ready(velo: Stack) -> int:
    answer = velo.get("/health/ready")
    return int(answer.json["workers"]) if answer.status == 200 else 0


def _kill(worker: subprocess.Popen[bytes], redis: Redis) -> float:
    """Seconds until the last one of its jobs was another worker's."""
    name = next(
        key.decode().split(":")[2]
        for key in redis.scan_iter("rq:worker:*", count=1000)
        if redis.type(key) == b"hash" and redis.hget(key, "pid") == str(worker.pid).encode()
    )
    jobs: list[bytes] = []
    while not jobs:  # killed with some in hand
        os.kill(worker.pid, signal.SIGSTOP)
        executions: Any = redis.smembers(f"rq:worker:{name}:executions")
        jobs = [b"rq:job:" + execution.rpartition(b":")[0] for execution in executions]
        if not jobs:
            os.kill(worker.pid, signal.SIGCONT)
            time.sleep(POLL)
    killed = time.perf_counter()
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    while any(redis.hget(job, "worker_name") in (b"", name.encode()) for job in jobs):
        time.sleep(POLL)
    return time.perf_counter() - killed


def main() -> None:
    rows, found = [], {}
    kinds = {
        "its neighbour on this machine sees it": "velo_site.settings",
        "only its lease tells, as on another machine": "tests.faults.elsewhere",
    }
    with tempfile.TemporaryDirectory(prefix="velo-rescue-") as folder:
        knobs = {"VELO_PREDICTOR": "sleep", "VELO_SLEEP_MS": 2}
        with stack(Path(folder), workers=0, **knobs) as velo:
            redis = Redis(unix_socket_path=str(Path(folder) / "valkey.sock"))
            for kind, settings in kinds.items():
                times, outcomes = measure(velo, redis, settings)
                found[kind] = {"seconds": times, "outcomes": outcomes}
                refused = sum(outcomes.values()) - outcomes[RIGHT]
                seconds = [f"{median(times):.2f} s", f"{max(times):.2f} s"]
                right = f"{outcomes[RIGHT]:,}"
                rows.append([kind, str(len(times)), *seconds, right, str(refused)])
            redis.close()
    heads = ["SIGKILL to one of two workers", "kills", "p50", "max", "answered right", "other"]
    report.write("rescue", found, report.table(heads, rows))


if __name__ == "__main__":
    main()

"""What benchmarks.versions does to a running Velo: changes which versions serve, under load."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.answers import Answer, Callers, bad, between, by_version, p95
from tests.stack import ROOT, Stack, environment
from tests.waiting import eventually
from workers.values.version_id import VersionId

MODEL = "model"
WORKERS = 3
SHADOW = 20  # per cent
SETTLED = 2.0  # seconds after a change is over that still count as "during"
PATIENCE = 120.0  # seconds


def velo_models(velo: Stack, *words: str) -> None:
    done = velo.manage("velo_models", *words)
    if done.returncode:
        raise SystemExit(f"velo_models {' '.join(words)}: {done.stdout}{done.stderr}")


def decide(velo: Stack, *words: str) -> None:
    velo_models(velo, *words, "--reason", "measured")


def served_by(velo: Stack, label: str) -> int:
    """How many workers serve this version, as the web process knows."""
    wanted = VersionId.parse(label)
    model = velo.get("/models").json["models"].get(wanted.model, {})
    return int(model.get("versions", {}).get(wanted.version, {}).get("workers", 0))


def select(velo: Stack, what: str) -> list[Any]:
    """From Velo's own database."""
    with sqlite3.connect(velo.folder / "velo.sqlite3") as database:
        return database.execute(what).fetchall()


@dataclass(frozen=True)
class Step:
    """One change, by time.monotonic: from when to when its effects could be felt."""

    name: str
    began: float
    ended: float


@dataclass(frozen=True)
class Steps:
    """The changes of one load."""

    callers: Callers
    quiet: float  # seconds between two
    taken: list[Step] = field(default_factory=list)

    @classmethod
    def after_a_pause(cls, callers: Callers, quiet: float) -> "Steps":
        """So that there is something before the first one."""
        time.sleep(SETTLED + quiet)
        return cls(callers, quiet)

    def take(self, name: str, change: Callable[[], object]) -> None:
        began = time.monotonic()
        change()
        took = time.monotonic() - began
        self.taken.append(Step(name, began, began + took + SETTLED))
        print(f"{name}: {took:.1f} s", file=sys.stderr, flush=True)
        time.sleep(SETTLED + self.quiet)

    def row(self, step: Step) -> dict[str, Any]:
        """What became of the requests until the next step."""
        sent = self.callers.answers()
        before = between(sent, step.began - self.quiet, step.began)
        during = between(sent, step.began, step.ended)
        after = between(sent, step.ended, step.ended + self.quiet)
        failed, wrong = bad(during + after)
        return {
            "step": step.name,
            "seconds": step.ended - step.began - SETTLED,
            "sent": len(during + after),
            "failed": failed,
            "wrong": wrong,
            "versions": by_version(during + after),
            "p95": [p95(before), p95(during), p95(after)],
        }

    def rows(self) -> list[dict[str, Any]]:
        """When all that was sent is answered."""
        return [self.row(step) for step in self.taken]


def change_versions(velo: Stack, steps: Steps, a: str, b: str, source: Path) -> None:
    """Everything that the admin can decide; `source` is b's."""

    def share(role: str, label: str, percent: int) -> None:
        decide(velo, role, label, str(percent))
        eventually(lambda: served_by(velo, label) == WORKERS, seconds=PATIENCE)

    version = VersionId.parse(b).version
    steps.take(
        "register and check B", lambda: velo_models(velo, *_added(version, source), "--wait")
    )
    steps.take("activate B over A", lambda: decide(velo, "activate", b, "--wait"))
    steps.take("roll back to A", lambda: decide(velo, "rollback", MODEL, "--wait"))
    steps.take("canary B, 10 %", lambda: share("canary", b, 10))
    steps.take("canary B, 50 %", lambda: share("canary", b, 50))
    steps.take("canary B, 100 %: activated", lambda: decide(velo, "activate", b, "--wait"))
    steps.take(f"shadow A, {SHADOW} %", lambda: share("shadow", a, SHADOW))
    steps.take("stop the shadow", lambda: decide(velo, "shadow", MODEL, "--stop"))


def _added(version: str, source: Path) -> tuple[str, ...]:
    return "add", MODEL, version, str(source)


def compared(velo: Stack) -> tuple[int, int]:
    """Copies whose answers were compared, and those that the shadow didn't answer."""
    [(count, failed)] = select(velo, "SELECT sum(count), sum(failed) FROM workers_shadowcomparison")
    return count or 0, failed or 0


def check_broken(
    velo: Stack, callers: Callers, broken: dict[str, Path], golden: tuple[str, list[float]]
) -> list[dict[str, Any]]:
    """What becomes of versions that mustn't serve, and of the requests meanwhile."""
    text, expected = golden
    words = ("golden", MODEL, json.dumps(text), "--expected", json.dumps(expected))
    velo_models(velo, *words, "--tolerance", "0.01")
    return [_check(velo, callers, name, folder) for name, folder in broken.items()]


def _check(velo: Stack, callers: Callers, name: str, source: Path) -> dict[str, Any]:
    began = time.monotonic()
    done = velo.manage("velo_models", *_added(name, source), "--wait")
    ended = time.monotonic()
    if not done.returncode:
        raise SystemExit(f"{name} may serve: {done.stdout}")
    print(f"{name}: {ended - began:.1f} s", file=sys.stderr, flush=True)
    sent = between(callers.answers(), began, ended)
    failed, wrong = bad(sent)
    # Some are refused before they are registered. The folder of this run says nothing to anybody.
    why = done.stderr.strip().splitlines()[0].removeprefix("CommandError: ")
    return {
        "version": name,
        "why": re.sub(r"/\S*/(?=\w)", "…/", why),
        "seconds": ended - began,
        "sent": len(sent),
        "failed": failed,
        "wrong": wrong,
    }


# --- as before there were versions --------------------------------------------------------------


@contextmanager
def own_workers(velo: Stack, path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Beside a `manage.py serve` without any; whoever is in the list at the end is stopped."""
    running = [_start(velo, path) for _ in range(WORKERS)]
    try:
        velo.wait_until_ready(WORKERS)
        yield running
    finally:
        for worker in running:
            worker.terminate()
        for worker in running:
            worker.wait(30)


def _start(velo: Stack, path: Path) -> subprocess.Popen[bytes]:
    knobs = {**velo.knobs, "VELO_MODEL_PATH": path}
    with (velo.folder / "workers.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "manage.py", "rqworker"],
            cwd=ROOT,
            env=environment(velo.folder, **knobs),
            stderr=log,
        )


def swap_workers(
    velo: Stack, running: list[subprocess.Popen[bytes]], path: Path, label: str
) -> None:
    """One by one: start one with the new weights, and when it serves, stop an old one."""
    for number in range(1, WORKERS + 1):
        running.append(_start(velo, path))
        eventually(partial(_serve, velo, label, number), seconds=PATIENCE)
        old = running.pop(0)
        old.terminate()
        old.wait(30)


def _serve(velo: Stack, label: str, workers: int) -> bool:
    return served_by(velo, label) >= workers


# --- shares and memory --------------------------------------------------------------------------


def canary_share(
    velo: Stack, callers: Callers, label: str, percent: int, requests: int
) -> dict[str, Any]:
    """Of so many requests, sent when the web process knew of the share."""
    decide(velo, "canary", label, str(percent))
    eventually(lambda: served_by(velo, label) == WORKERS, seconds=PATIENCE)
    time.sleep(SETTLED)
    began = time.monotonic()

    def sent() -> list[Answer]:
        return between(callers.answers(), began, time.monotonic())

    eventually(lambda: len(sent()) >= requests, seconds=PATIENCE)
    counted = sent()[:requests]
    failed, wrong = bad(counted)
    share = 100 * by_version(counted)[label] / len(counted)
    return {"set": percent, "sent": len(counted), "share": share, "failed": failed, "wrong": wrong}


def resident(velo: Stack) -> dict[int, int]:
    """Bytes of each worker process."""
    return {
        pid: int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        for pid in velo.pids("rqworker")
    }


def gone(velo: Stack, label: str) -> bool:
    """Whether each worker says that it doesn't hold this version any more."""
    held = select(velo, "SELECT held FROM workers_worker")
    return bool(held) and all(label not in json.loads(one) for (one,) in held)

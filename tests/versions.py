"""Versions in a running Velo: callers who know what each of them answers, and what the workers say
of them."""

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy
from redis import Redis

from tests.faults.load import RIGHT, WRONG, Asked, Load, post
from tests.models import cls_reference
from tests.stack import Stack
from tests.waiting import eventually
from workers.predictors import folder

TEXTS = [f"text {number}" for number in range(20)]
PAUSE = 0.06  # seconds between two requests of a caller: others need the processor too
NEAR = 0.99  # cosine; two versions' answers to a text are far from it

Vectors = numpy.ndarray  # shape (TEXTS, numbers)


def label(name: str, path: Path) -> str:
    """Of the version that a worker declares when it is started with this folder."""
    return f"{name}@{folder.digest(path)}"


def references(versions: Mapping[str, Path]) -> dict[str, Vectors]:
    """By label, what plain transformers make of TEXTS. No two versions answer any of them alike."""
    found = {label: cls_reference(path, TEXTS) for label, path in versions.items()}
    kept = list(found.values())
    for number, one in enumerate(kept):
        assert all((one * other).sum(axis=1).max() < NEAR - 0.1 for other in kept[:number])
    return found


class Compared(Load):
    """Callers who compare every answer with that of the version in its header. A version that isn't
    in `known` is WRONG."""

    def __init__(
        self,
        velo: Stack,
        known: Mapping[str, Vectors],
        callers: int = 4,
        path: str = "/transform",
    ) -> None:
        super().__init__(velo, callers)
        self._known = known
        self._path = path

    def ask(self, http: HTTPConnection, number: int) -> Asked:
        number %= len(TEXTS)
        began = time.monotonic()
        outcome, version, body = post(http, self._path, TEXTS[number])
        if outcome == RIGHT and not near(self._known.get(version), number, body):
            outcome = WRONG
        seconds = time.monotonic() - began
        self._over.wait(PAUSE)
        return Asked(TEXTS[number], began, seconds, outcome, version)

    @property
    def versions(self) -> Counter[str]:
        """That have answered."""
        return Counter(one.version for one in list(self.asked) if one.outcome == RIGHT)

    def goes_on(self, more: int = 60, by: Sequence[str] = ()) -> None:
        """Until so many more are answered and, from some moment on, by these versions alone, each
        of which has its part."""
        began = time.monotonic()

        def enough() -> bool:
            latest = [one for one in list(self.asked) if one.began > began][-more:]
            if len(latest) < more:
                return False
            return not by or {one.version for one in latest if one.outcome == RIGHT} == set(by)

        eventually(enough, seconds=40)


def near(known: Vectors | None, number: int, body: Any) -> bool:
    if known is None or numpy.shape(body) != known[number].shape:
        return False
    return bool(numpy.dot(body, known[number]) > NEAR)


def decide(velo: Stack, *words: object) -> str:
    """`manage.py velo_models`, which must succeed. What it prints."""
    ended = velo.manage("velo_models", "--skip-checks", *map(str, words))
    assert ended.returncode == 0, ended.stdout + ended.stderr + velo.output()[-3000:]
    return ended.stdout


def refused(velo: Stack, *words: object) -> str:
    """`manage.py velo_models`, which must fail. Why it does."""
    ended = velo.manage("velo_models", "--skip-checks", *map(str, words))
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert ended.stderr.startswith("CommandError: "), ended.stderr
    return ended.stderr


def shell(velo: Stack, code: str) -> str:
    """What Velo's own code prints, in a process of its own."""
    ended = velo.manage("shell", "--verbosity", "0", "-c", code)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def table(velo: Stack, query: str) -> list[tuple[Any, ...]]:
    """What stands in the database: quicker to ask again and again than a process of its own."""
    with closing(sqlite3.connect(velo.folder / "velo.sqlite3", timeout=20)) as database:
        return database.execute(query).fetchall()


def held(velo: Stack) -> dict[str, dict[str, str]]:
    """By worker, that isn't ended: the state of each version that it has, or is told to have."""
    rows = table(
        velo, "SELECT id, pid, held FROM workers_worker WHERE state NOT IN ('stopped', 'failed')"
    )
    return {
        worker: {label: one["state"] for label, one in json.loads(said).items()}
        for worker, pid, said in rows
        if Path(f"/proc/{pid}").exists()
    }


def all_hold(velo: Stack, *labels: str, workers: int) -> bool:
    """These, ready, and nothing else."""
    found = held(velo)
    return len(found) == workers and all(
        one == dict.fromkeys(labels, "ready") for one in found.values()
    )


def latest_change(velo: Stack) -> tuple[str, str]:
    """Outcome and detail."""
    query = "SELECT outcome, detail FROM workers_change ORDER BY id DESC LIMIT 1"
    [(outcome, detail)] = table(velo, query)
    return outcome, detail


@contextmanager
def redis_of(velo: Stack) -> Iterator[Redis]:
    with Redis(unix_socket_path=str(velo.folder / "valkey.sock")) as redis:
        yield redis


def leases(redis: Redis, label: str) -> int:
    """Workers that serve this version."""
    seconds, microseconds = redis.time()
    now = seconds + microseconds / 1e6
    return int(redis.zcount(f"velo:leases:{label}", now, "+inf"))

"""A model is changed by its workers alone: one with the new VELO_MODEL_PATH starts, both answer for
a while, the old one stops. No request fails."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.load import RIGHT
from tests.models import tiny
from tests.stack import Stack, stack
from tests.test_workers import start_worker
from tests.versions import Compared, Vectors, label, leases, redis_of, references
from tests.waiting import eventually

Worker = subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: tiny(root / name, seed) for seed, name in enumerate(("old", "new"))}


@pytest.fixture(scope="module")
def velo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(tmp_path_factory.mktemp("velo"), workers=0) as running:
        yield running


@contextmanager
def ended_at_last(workers: list[Worker]) -> Iterator[None]:
    try:
        yield
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.terminate()
        for worker in workers:
            worker.wait(90)


def serving(velo: Stack) -> set[str]:
    """As /stat has it: one worker for each version."""
    workers = velo.get("/stat").json["workers"].values()
    found = [label for worker in workers for label in worker["model_versions"]]
    assert len(found) == len(set(found))
    return set(found)


@pytest.mark.parametrize("name", ["", "mine"], ids=["two names", "one name"])
def test_old_and_new_live_side_by_side_until_the_old_one_goes(
    velo: Stack, folders: dict[str, Path], name: str
) -> None:
    a, b = (label(name or folder.name, folder) for folder in folders.values())
    known: dict[str, Vectors] = references({a: folders["old"], b: folders["new"]})
    workers: list[Worker] = []

    def start(which: str) -> Worker:
        knobs = {"VELO_MODEL_PATH": folders[which], **({"VELO_MODEL_NAME": name} if name else {})}
        workers.append(start_worker(velo, **knobs))
        return workers[-1]

    with ended_at_last(workers):
        old = start("old")
        eventually(lambda: velo.get("/health/ready").status == 200, seconds=60)
        with Compared(velo, known) as load:
            load.goes_on(by=[a])

            new = start("new")
            eventually(lambda: serving(velo) == {a, b}, seconds=60)
            load.goes_on(by=[a, b])
            listed = velo.get("/models").json["models"]
            for label_ in (a, b):
                model, _, version = label_.partition("@")
                assert listed[model]["versions"][version]["workers"] == 1
                path = f"/models/{model}/versions/{version}/transform"
                asked = velo.request("POST", path, b'"a"', {"Content-Type": "application/json"})
                assert asked.headers["x-velo-model-version"] == label_

            old.terminate()
            assert old.wait(90) == 0
            load.goes_on(by=[b])
            assert serving(velo) == {b}
            assert velo.get("/models").json["default"] == b.partition("@")[0]

            # And back; this time the one that goes is killed.
            start("old")
            eventually(lambda: serving(velo) == {a, b}, seconds=60)
            load.goes_on(by=[a, b])
            new.kill()
            new.wait()
            load.goes_on(by=[a])
            eventually(lambda: serving(velo) == {a})
            assert velo.get("/models").json["models"].keys() >= {a.partition("@")[0]}
        assert set(load.outcomes) == {RIGHT}, load.outcomes
        assert max(one.seconds for one in load.asked) < 10
        with redis_of(velo) as redis:
            assert leases(redis, b) == 0
            assert redis.llen(f"rq:queue:{b}") == 0

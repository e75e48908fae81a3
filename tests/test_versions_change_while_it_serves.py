"""Under steady load versions are activated, rolled back, tried as canary and shadow, whatever
happens to workers and Redis meanwhile: every answer is that of the version in its header."""

import os
import shutil
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, Popen

import pytest

from tests.faults.load import RIGHT
from tests.models import tiny
from tests.stack import ROOT, Stack, environment, stack
from tests.test_workers import start_worker
from tests.versions import (
    TEXTS,
    Compared,
    Vectors,
    all_hold,
    decide,
    held,
    label,
    latest_change,
    leases,
    near,
    redis_of,
    references,
    refused,
    shell,
    table,
)
from tests.waiting import eventually

WORKERS = 2
B = "tiny@b"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {"root": root, "a": tiny(root / "a", 1), "b": tiny(root / "b", 2)}


@pytest.fixture(scope="module")
def a(folders: dict[str, Path]) -> str:
    """The version that the workers are started with."""
    return label("tiny", folders["a"])


@pytest.fixture(scope="module")
def known(folders: dict[str, Path], a: str) -> dict[str, Vectors]:
    return references({a: folders["a"], B: folders["b"]})


@pytest.fixture(scope="module")
def running(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(
        tmp_path_factory.mktemp("velo"),
        workers=WORKERS,
        VELO_MODEL_PATH=folders["a"],
        VELO_MODEL_NAME="tiny",
        VELO_MODEL_ROOTS=folders["root"],
    ) as velo:
        decide(velo, "add", "tiny", "b", folders["b"], "--wait")
        yield velo


@pytest.fixture
def velo(running: Stack, a: str) -> Stack:
    """All workers hold A, and nothing else, before each test."""
    tell = running.get("/models").json["models"]["tiny"]
    for role in ("canary", "shadow"):
        if tell[role]:
            decide(running, role, "tiny", "--stop", "--reason", "the next test")
    if tell["active"] == "b":
        decide(running, "activate", a, "--reason", "the next test", "--wait")
    eventually(lambda: all_hold(running, a, workers=WORKERS), seconds=60)
    return running


@pytest.fixture
def load(velo: Stack, known: dict[str, Vectors]) -> Iterator[Compared]:
    """Every answer in it was right."""
    with Compared(velo, known) as callers:
        callers.goes_on()
        yield callers
        callers.goes_on()
    assert set(callers.outcomes) == {RIGHT}, callers.outcomes


def activate(velo: Stack, version: str) -> str:
    return decide(velo, "activate", version, "--reason", "a test", "--wait")


def activating(velo: Stack, version: str) -> "Popen[bytes]":
    """An activation that has just begun."""
    [(count,)] = table(velo, "SELECT count(*) FROM workers_change")
    words = ["velo_models", "activate", version, "--reason", "a test", "--wait"]
    process = Popen(
        [sys.executable, "manage.py", *words],
        cwd=ROOT,
        env=environment(velo.folder, **velo.knobs),
        stdout=DEVNULL,
        stderr=DEVNULL,
    )
    eventually(lambda: table(velo, "SELECT count(*) FROM workers_change") == [(count + 1,)])
    return process


def test_no_request_fails_when_a_version_is_activated_and_rolled_back(
    velo: Stack, load: Compared, a: str
) -> None:
    said = activate(velo, B)
    assert "tiny@b: done" in said
    load.goes_on(by=[B])
    eventually(lambda: all_hold(velo, B, workers=WORKERS))
    with redis_of(velo) as redis:
        assert leases(redis, a) == 0
        assert leases(redis, B) == WORKERS
        assert redis.llen(f"rq:queue:{a}") == 0
    model = eventually(lambda: velo.get("/models").json["models"]["tiny"])
    assert model["active"] == "b"
    assert model["versions"]["b"] == {"state": "active", "workers": WORKERS}
    assert model["versions"][a.partition("@")[2]] == {"state": "retired", "workers": 0}
    assert velo.transform("text").headers["x-velo-model"] == "tiny"
    stat = velo.get("/stat").json
    assert {one["model_version"] for one in stat["workers"].values()} == {B}
    assert stat["model_versions"].keys() == {B}
    assert stat["model_versions"][B]["workers"] == WORKERS

    decide(velo, "rollback", "tiny", "--reason", "a test", "--wait")
    load.goes_on(by=[a])
    eventually(lambda: all_hold(velo, a, workers=WORKERS))
    with redis_of(velo) as redis:
        assert leases(redis, B) == 0
    seen = load.versions  # earlier tests have asked too
    eventually(lambda: Counter(answered(velo)) >= seen)


def answered(velo: Stack) -> dict[str, int]:
    """By version, as the table of latencies has it."""
    rows = table(
        velo,
        "SELECT v.model_id || '@' || v.version, sum(l.count) FROM workers_latencysample l"
        " JOIN workers_modelversion v ON v.id = l.model_version_id"
        " WHERE l.stage = 'response' GROUP BY 1",
    )
    return dict(rows)


def test_a_canary_answers_its_share_and_the_same_keys_always(
    velo: Stack, known: dict[str, Vectors], a: str
) -> None:
    def by_key() -> dict[str, set[str]]:
        found = defaultdict(set)
        for number in range(60):
            key = f"key {number}"
            for _ in range(2):
                answer = velo.request(
                    *("POST", "/transform", b'"text 3"'),
                    {"Content-Type": "application/json", "X-Request-Key": key},
                )
                version = answer.headers["x-velo-model-version"]
                assert near(known[version], 3, answer.json)
                found[key].add(version)
        return found

    decide(velo, "canary", B, 30, "--reason", "a test")
    eventually(lambda: all_hold(velo, a, B, workers=WORKERS))
    with Compared(velo, known) as load:
        eventually(lambda: B in load.versions)
        first = load.versions.copy()
        load.goes_on(300)
        more = load.versions - first
    assert set(load.outcomes) == {RIGHT}
    assert more[B] / more.total() == pytest.approx(0.3, abs=0.05)

    before = by_key()
    assert all(len(versions) == 1 for versions in before.values())
    canaries = {key for key, versions in before.items() if versions == {B}}
    assert 5 < len(canaries) < 35
    decide(velo, "canary", B, 60, "--reason", "a test")
    eventually(lambda: velo.get("/models").json["models"]["tiny"]["canary"]["percent"] == 60)
    after = {key for key, versions in by_key().items() if versions == {B}}
    assert canaries < after

    decide(velo, "canary", "tiny", "--stop", "--reason", "a test")
    eventually(lambda: all_hold(velo, a, workers=WORKERS))
    assert velo.transform("text").headers["x-velo-model-version"] == a


def test_a_shadow_is_compared_and_never_answers(velo: Stack, load: Compared, a: str) -> None:
    decide(velo, "shadow", B, 100, "--reason", "a test")
    eventually(lambda: all_hold(velo, a, B, workers=WORKERS))
    compared = "SELECT count, failed, likeness FROM workers_shadowcomparison"
    [(count, failed, likeness)] = eventually(lambda: table(velo, compared))
    assert count
    assert not failed
    assert '"<0.5"' in likeness, likeness  # they aren't alike at all
    load.goes_on(by=[a])
    decide(velo, "shadow", "tiny", "--stop", "--reason", "a test")
    eventually(lambda: all_hold(velo, a, workers=WORKERS))
    assert load.versions.keys() == {a}
    with redis_of(velo) as redis:
        assert not leases(redis, B)
        assert not redis.llen(f"rq:queue:{B}")


CANCEL = """
import pathlib, sys, time
from workers.catalog import lifecycle
from workers.models import ModelVersion
version = ModelVersion.objects.get(version="b")
log = pathlib.Path({log!r})
seen = log.read_text().count("loading tiny@b")
lifecycle.activate(version, by="a test", reason="to be cancelled")
until = time.monotonic() + 20
while log.read_text().count("loading tiny@b") == seen and time.monotonic() < until:
    time.sleep(0.02)
lifecycle.cancel(version.model, by="a test")
"""


def test_an_activation_that_is_cancelled_changes_nothing(
    velo: Stack, load: Compared, a: str
) -> None:
    shell(velo, CANCEL.format(log=str(velo.log)))
    assert latest_change(velo) == ("cancelled", "Cancelled by a test.")
    load.goes_on()
    eventually(lambda: all_hold(velo, a, workers=WORKERS))
    assert load.versions.keys() == {a}


def test_a_version_whose_files_have_changed_is_not_served(
    velo: Stack, load: Compared, folders: dict[str, Path], a: str
) -> None:
    changed = shutil.copytree(folders["b"], folders["root"] / "changed")
    decide(velo, "add", "tiny", "changed", changed, "--wait")
    (changed / "README.md").write_text("Better than ever.")
    why = refused(velo, "activate", "tiny@changed", "--reason", "a test", "--wait")
    assert "tiny@changed isn't active" in why
    outcome, detail = latest_change(velo)
    assert outcome == "failed"
    assert "Traceback" in detail
    assert "differ from the registered files" in detail
    load.goes_on()
    eventually(lambda: all_hold(velo, a, workers=WORKERS))
    assert load.versions.keys() == {a}


def test_a_worker_that_joins_during_an_activation_has_it_too(
    velo: Stack, load: Compared, a: str
) -> None:
    joining = start_worker(velo)
    try:
        eventually(lambda: len(held(velo)) == WORKERS + 1)
        activate(velo, B)
        load.goes_on(by=[B])
        eventually(lambda: all_hold(velo, B, workers=WORKERS + 1))
        model = eventually(lambda: velo.get("/models").json["models"]["tiny"])
        assert model["versions"]["b"]["workers"] == WORKERS + 1
    finally:
        joining.terminate()
        assert joining.wait(90) == 0


def test_a_worker_that_is_killed_during_an_activation(velo: Stack, load: Compared, a: str) -> None:
    process = activating(velo, B)
    os.kill(velo.pids("rqworker")[0], signal.SIGKILL)
    assert process.wait(60) == 0
    assert latest_change(velo)[0] == "done"
    load.goes_on(by=[B])
    eventually(lambda: all_hold(velo, B, workers=WORKERS), seconds=60)


def flush(velo: Stack) -> None:
    with redis_of(velo) as redis:
        redis.flushall()
        eventually(lambda: redis.exists("velo:plan"))


def test_redis_loses_everything_during_an_activation_and_after_it(
    velo: Stack, known: dict[str, Vectors]
) -> None:
    with Compared(velo, known) as load:
        load.goes_on()
        process = activating(velo, B)
        flush(velo)
        assert process.wait(60) == 0
        assert latest_change(velo)[0] == "done"
        load.goes_on(by=[B])
        eventually(lambda: all_hold(velo, B, workers=WORKERS))
        flush(velo)
        load.goes_on(by=[B])
    # For a moment Redis knew of no worker.
    assert set(load.outcomes) <= {RIGHT, "no_worker"}
    assert load.outcomes["no_worker"] < load.outcomes[RIGHT] / 2
    assert all(one.text in TEXTS for one in load.asked)

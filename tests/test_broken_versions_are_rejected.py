"""A version that is broken is refused or rejected, with the reason; what serves goes on serving."""

import json
import os
import pickle
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.faults.load import RIGHT, SLOW, Load
from tests.faults.test_a_worker_dies import goes_on, workers
from tests.models import tiny
from tests.stack import Stack, descendants, stack
from tests.versions import decide, refused, shell, table
from tests.waiting import eventually

WORKERS = 2


class Pickled:
    """It runs what it likes when it is read."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.getpid, ()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny(folder / "good", 1)
    return folder


@pytest.fixture(scope="module")
def velo(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """With a model that only sleeps, and room for nothing else."""
    with stack(
        tmp_path_factory.mktemp("velo"),
        workers=WORKERS,
        VELO_PREDICTOR="sleep",
        VELO_SLEEP_MS=SLOW,
        VELO_MODEL_ROOTS=root,
        VELO_WORKER_MEMORY_MB=10,
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def load(velo: Stack) -> Iterator[Load]:
    """All this time requests are answered as ever."""
    with Load(velo, callers=2) as callers:
        yield callers
        goes_on(callers, 20)
    assert set(callers.outcomes) == {RIGHT}, callers.outcomes


def copy(root: Path, name: str) -> Path:
    return Path(shutil.copytree(root / "good", root / name))


def state(velo: Stack, label: str) -> tuple[str, str]:
    """And the reason."""
    name, _, version = label.partition("@")
    [found] = table(
        velo,
        "SELECT state, reason FROM workers_modelversion"
        f" WHERE model_id = '{name}' AND version = '{version}'",
    )
    return found[0], found[1]


def rejected(velo: Stack, label: str) -> str:
    """Why it is."""
    found = eventually(lambda: (it := state(velo, label))[0] != "checking" and it, seconds=90)
    assert found[0] == "rejected", found
    return found[1]


def test_what_a_check_finds(velo: Stack, root: Path) -> None:
    weights = copy(root, "truncated") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])
    tensors = load_file(root / "good" / "model.safetensors")
    tensors["encoder.layer.1.output.dense.weight"][0] = float("nan")
    save_file(tensors, copy(root, "nan") / "model.safetensors", metadata={"format": "pt"})
    for version in ("truncated", "nan", "good"):
        decide(velo, "add", "tiny", version, root / version)
    decide(velo, "add", "labels", "good", root / "good", "--kind", "classify")
    why = rejected(velo, "tiny@truncated")
    assert why.startswith("load: ")
    assert "Download its files again" in why
    assert "infinite or not numbers" in rejected(velo, "tiny@nan")
    assert "of another kind than 'classify'" in rejected(velo, "labels@good")
    why = rejected(velo, "tiny@good")
    assert re.search(r"memory: It takes \d+ MB; a worker may hold 10 MB. Raise VELO_WORKER_M", why)
    said = refused(velo, "activate", "tiny@nan", "--reason", "a test")
    assert "tiny@nan is rejected" in said
    assert "infinite or not numbers" in said


def test_another_answer_than_the_golden_one(velo: Stack) -> None:
    decide(velo, "add", "golden", "1", "", "--kind", "sleep", "--wait")
    said = decide(velo, "golden", "golden", '"Hello!"')
    assert "golden has no active version, so checks skip Hello! until it has." in said
    assert "golden input 1 skipped" in decide(velo, "check", "golden@1", "--wait")
    decide(velo, "golden", "golden", '"Bye!"', "--expected", json.dumps([0.5] * 32))
    why = refused(velo, "add", "golden", "2", "", "--kind", "sleep", "--wait")
    assert "golden input 2: To Bye! the answer differs from the expected answer: [0]: " in why
    assert "instead of 0.5" in why
    assert state(velo, "golden@2")[0] == "rejected"
    assert state(velo, "golden@1")[0] == "ready"


def evil_pickle(folder: Path) -> str:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Pickled()))
    return "aren't read"


def evil_weights(folder: Path) -> str:
    (folder / "model.safetensors").unlink()
    torch.save({"weights": Pickled()}, folder / "pytorch_model.bin")
    return "aren't read"


def own_code(folder: Path) -> str:
    config = json.loads((folder / "config.json").read_text())
    own = {**config, "auto_map": {"AutoModel": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(own))
    (folder / "own.py").write_text("raise SystemExit")
    return "asks for code of the model's own, which Velo never runs: auto_map"


def elsewhere(folder: Path) -> str:
    outside = folder.parent.parent / f"outside of {folder.parent.name}"
    folder.rename(outside)
    folder.symlink_to(outside)
    return "is a link that leads out of them"


@pytest.mark.parametrize("harm", [evil_pickle, evil_weights, own_code, elsewhere])
def test_what_is_not_even_read(velo: Stack, root: Path, harm: Callable[[Path], str]) -> None:
    folder = copy(root, harm.__name__)
    expected = harm(folder)
    assert expected in refused(velo, "add", "evil", harm.__name__, folder)
    assert not table(velo, "SELECT * FROM workers_modelversion WHERE model_id = 'evil'")


@pytest.mark.parametrize("where", ["/etc", "/nowhere/at/all"])
def test_a_folder_out_of_the_roots(velo: Stack, where: str) -> None:
    said = refused(velo, "add", "evil", "1", where)
    assert "lies outside of the folders that models may be in" in said
    assert "VELO_MODEL_ROOTS" in said


REGISTER = """
from workers.catalog import lifecycle
for number in range({count}):
    lifecycle.register("{name}", str(number), "", by="anna", kind="sleep")
"""


def register(velo: Stack, name: str, count: int) -> None:
    shell(velo, REGISTER.format(name=name, count=count))


def states(velo: Stack, name: str) -> list[tuple[str, str]]:
    """State and reason of each of its versions."""
    query = "SELECT state, reason FROM workers_modelversion"
    return table(velo, f"{query} WHERE model_id = '{name}' ORDER BY id")


def is_checked_by(velo: Stack, pid: int) -> bool:
    """Whether the version of this process's check is still being checked."""
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    number = words[words.index("check_version") + 1]
    query = f"SELECT state FROM workers_modelversion WHERE id = {int(number)}"
    return table(velo, query) == [("checking",)]


def caught(velo: Stack) -> int:
    """The process of a check that has just begun, stopped."""

    def stop() -> int:
        for pid in velo.pids("check_version"):
            with suppress(ProcessLookupError, FileNotFoundError):
                os.kill(pid, signal.SIGSTOP)
                if is_checked_by(velo, pid):
                    return pid
                os.kill(pid, signal.SIGCONT)  # too late: it has said how its check ended
        return 0

    return eventually(stop)


def test_a_check_whose_process_is_killed(velo: Stack, root: Path) -> None:
    decide(velo, "add", "killed", "1", root / "good")
    os.kill(caught(velo), signal.SIGKILL)
    why = rejected(velo, "killed@1")
    assert why.startswith("The check failed: its process ended with SIGKILL.")


def test_a_check_whose_worker_is_killed_and_checks_that_wait(velo: Stack) -> None:
    count = 3
    register(velo, "interrupted", count)
    pid = caught(velo)
    [_, parent] = re.findall(r"^P?Pid:\s+(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.M)
    os.kill(int(parent), signal.SIGKILL)
    os.kill(pid, signal.SIGCONT)  # so that it can end with its worker
    eventually(lambda: pid not in velo.pids())
    # Another worker takes up what waited, and does nothing to what was interrupted.
    eventually(lambda: "checking" not in {it for it, _ in states(velo, "interrupted")}, 90)
    said = states(velo, "interrupted")
    assert sorted(said) == [
        *[("ready", "")] * (count - 1),
        ("registered", "Its check was interrupted. Check it again."),
    ]
    number = said.index(("registered", "Its check was interrupted. Check it again."))
    eventually(lambda: workers(velo) == WORKERS)
    decide(velo, "check", f"interrupted@{number}", "--wait")
    assert state(velo, f"interrupted@{number}")[0] == "ready"


def test_many_registrations_at_once_are_checked_one_after_another(velo: Stack) -> None:
    count = 5
    register(velo, "many", count)
    processes = set()

    def done() -> bool:
        pids = velo.pids("check_version")
        # A library asks `file` about Python: until its exec, that is a copy of its parent.
        own = {child for pid in pids for child in descendants(pid)}
        processes.add(len(set(pids) - own))
        return "checking" not in {it for it, _ in states(velo, "many")}

    eventually(done, seconds=60)
    assert [it for it, _ in states(velo, "many")] == ["ready"] * count
    assert max(processes) <= 1

"""Whatever kills a worker, every request that was accepted is answered, and rightly."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.load import RIGHT, Load
from tests.stack import Stack, stack
from tests.waiting import eventually

FAULTY = "tests.faults.settings"


@pytest.fixture
def velo(tmp_path: Path) -> Iterator[Stack]:
    with stack(
        tmp_path,
        workers=2,
        DJANGO_SETTINGS_MODULE=FAULTY,
        VELO_SLEEP_MS=2,
        VELO_JOB_TIMEOUT=2,
    ) as running:
        yield running


def busy(load: Load, more: int = 100) -> None:
    """Until so many more have been answered."""
    before = load.right()
    eventually(lambda: load.right() >= before + more)


def test_a_killed_worker_costs_no_answer(velo: Stack) -> None:
    with Load(velo) as load:
        busy(load)
        os.kill(velo.pids("rqworker")[0], signal.SIGKILL)
        busy(load)
    assert set(load.outcomes) == {RIGHT}
    eventually(lambda: velo.get("/health/ready").json["workers"] == 2)

"""A clock that is an hour ahead or behind, in a worker or in the server, costs no answer."""

import os
from pathlib import Path

import pytest

from tests.faults.load import RIGHT, SLOW, Load
from tests.faults.test_a_worker_dies import goes_on, workers
from tests.faults.valkey import Valkey
from tests.stack import stack
from tests.test_workers import start_worker
from tests.waiting import eventually

LIBRARY = next(Path("/usr").glob("lib*/*/faketime/libfaketimeMT.so.1"), None)
HOUR = 3600


def wrong(clock: Path) -> dict[str, str]:
    """The environment of a process that goes by what the file `clock` says."""
    assert LIBRARY, "libfaketime isn't installed: apt-get install faketime (dnf: libfaketime)"
    return {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_a_worker_whose_clock_is_wrong(tmp_path: Path, seconds: int) -> None:
    clock = tmp_path / "clock"
    clock.write_text(f"{seconds:+}s")
    # Python's sleep raises an error under libfaketime.
    knobs = {"VELO_PREDICTOR": "sleep", "VELO_SLEEP_MS": 0}
    with stack(tmp_path, workers=1, **knobs) as velo, Load(velo) as load:
        goes_on(load)
        other = start_worker(velo, **wrong(clock))
        try:
            eventually(lambda: workers(velo) == 2)
            goes_on(load)
        finally:
            other.kill()  # its jobs are rescued all the same
            other.wait()
        goes_on(load)
    assert set(load.outcomes) == {RIGHT}


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_a_server_whose_clock_jumps(tmp_path: Path, seconds: int) -> None:
    """What Redis keeps for a time it forgets at once when its clock jumps ahead."""
    clock = tmp_path / "clock"
    clock.write_text("+0s")
    (tmp_path / "velo").mkdir()
    valkey = Valkey(tmp_path, {**os.environ, **wrong(clock)})
    try:
        knobs = {
            "REDIS_URL": f"unix://{valkey.socket}",
            "VELO_PREDICTOR": "sleep",
            "VELO_SLEEP_MS": SLOW,
        }
        with stack(tmp_path / "velo", workers=2, **knobs) as velo, Load(velo) as load:
            goes_on(load)
            before = valkey.client.time()[0]
            clock.write_text(f"{seconds:+}s")
            eventually(lambda: abs(valkey.client.time()[0] - before - seconds) < 60)
            goes_on(load)
            eventually(lambda: workers(velo) == 2)
            goes_on(load)
        assert set(load.outcomes) <= {RIGHT, "no_worker"}
    finally:
        valkey.end()

"""The last resort, for C code that never lets Python run, allows what the step in hand may take."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.stack import ROOT, environment

# `PyDLL` keeps the interpreter's lock during the call: no other thread of Python's runs.
STEP = """
import ctypes, sys
import django
django.setup()
from workers.host.ticker import Ticker
from workers.host.watchdog import Watchdog
allowed = float(sys.argv[1]) if sys.argv[1] != "any" else None
watchdog = Watchdog("w")
watchdog.look()
Ticker("watchdog", 0.2, watchdog.look).start()
with watchdog.expect(allowed):
    ctypes.PyDLL(None).usleep(int(float(sys.argv[2]) * 1e6))
print("lived")
watchdog.rest()
"""


@pytest.mark.parametrize(
    ("allowed", "takes", "lives"),
    [
        ("8", 4.0, True),  # longer than VELO_JOB_TIMEOUT, and it may
        ("any", 4.0, True),
        ("1", 30.0, False),
    ],
)
def test_a_step_in_c_is_ended_when_it_takes_longer_than_it_may(
    tmp_path: Path, allowed: str, takes: float, lives: bool
) -> None:
    knobs = {
        "VELO_JOB_TIMEOUT": 1,  # with its grace, 3 s
        "DJANGO_SETTINGS_MODULE": "velo_site.settings",
        "DJANGO_SECRET_KEY": "x",
        "DJANGO_ALLOWED_HOSTS": "localhost",
    }
    ended = subprocess.run(
        [sys.executable, "-c", STEP, allowed, str(takes)],
        cwd=ROOT,
        env=environment(tmp_path, **knobs),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ("lived" in ended.stdout) is lives, ended.stderr
    assert (ended.returncode == 0) is lives
    if not lives:
        assert "Timeout" in ended.stderr  # where it hung

"""`manage.py setup` twice at the same moment: both succeed, and one of them makes the admin."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.stack import ROOT, environment

AT_ONCE = 3


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_one_waits_for_the_other(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    knobs = {"DJANGO_ALLOWED_HOSTS": "localhost", "DJANGO_SECRET_KEY": "x"}
    if database == "postgres":
        knobs["DATABASE_URL"] = request.getfixturevalue("postgres")
    # On PostgreSQL each has a state folder of its own, as on a machine of its own.
    folders = [tmp_path / (str(n) if database == "postgres" else "") for n in range(AT_ONCE)]
    processes = [
        subprocess.Popen(
            [sys.executable, "manage.py", "setup"],
            cwd=ROOT,
            env=environment(folder, **knobs),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for folder in folders
    ]
    ended = [(*process.communicate(timeout=120), process.returncode) for process in processes]
    assert [code for _, _, code in ended] == [0] * AT_ONCE, ended
    assert sum("Admin user created" in said for said, _, _ in ended) == 1

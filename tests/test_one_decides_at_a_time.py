"""Of several who decide the same at the same moment one has their way, and the others are told."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.stack import ROOT, environment, manage


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_of_several_at_once_one_has_their_way(
    tmp_path: Path, request: pytest.FixtureRequest, database: str
) -> None:
    """Redis is away meanwhile, which doesn't matter here."""
    knobs = {
        "DJANGO_SETTINGS_MODULE": "velo_site.settings",
        "DJANGO_SECRET_KEY": "a-key",
        "DJANGO_ALLOWED_HOSTS": "localhost",
    }
    if database == "postgresql":
        knobs["DATABASE_URL"] = request.getfixturevalue("postgres")
    migrated = manage(tmp_path, "migrate", **knobs)
    assert migrated.returncode == 0, migrated.stderr
    ended = subprocess.run(
        [sys.executable, "-m", "tests.at_once"],
        cwd=ROOT,
        env=environment(tmp_path, **knobs),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.stdout.strip() == "one each time", ended.stderr

"""What an earlier Velo has written is there after the upgrade."""

import json
from pathlib import Path

import pytest

from tests.stack import manage

INSERT = """
from django.db import connection
with connection.cursor() as cursor:
    for name, version, state, at in (("a", "1", "ready", 1), ("a", "2", "ready", 2),
                                     ("b", "1", "rejected", 3), ("c", "1", "ready", 0)):
        cursor.execute(
            "INSERT INTO workers_modelversion (name, version, source, task, dimensions, engine, "
            "state, first_seen) VALUES (%s, %s, 's', 'embed', 3, '', %s, %s)",
            [name, version, state, f"2026-01-0{at + 1} 00:00:00+00:00"],
        )
"""
READ = """
import json
from workers.models import ModelVersion, ServedModel
print(json.dumps([
    sorted(f"{one} {one.state}" for one in ModelVersion.objects.all()),
    [[one.name, one.kind, str(one.active), one.is_default] for one in ServedModel.objects.all()],
]))
"""


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_versions_get_their_models(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    knobs = {"DJANGO_SECRET_KEY": "x", "DJANGO_ALLOWED_HOSTS": "localhost"}
    if database == "postgres":
        knobs["DATABASE_URL"] = request.getfixturevalue("postgres")

    def run(*words: str) -> str:
        ended = manage(tmp_path, *words, **knobs)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    run("migrate", "--verbosity", "0", "workers", "0003")
    run("shell", "--verbosity", "0", "-c", INSERT)
    run("migrate", "--verbosity", "0")
    versions, models = json.loads(run("shell", "--verbosity", "0", "-c", READ))
    assert versions == ["a@1 retired", "a@2 active", "b@1 rejected", "c@1 active"]
    assert models == [
        ["a", "embed", "a@2", True],
        ["b", "embed", "None", False],
        ["c", "embed", "c@1", False],
    ]
    run("migrate", "--verbosity", "0", "workers", "0003")
    run("migrate", "--verbosity", "0")

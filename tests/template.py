"""A state folder as its first start leaves it: made once for a run of the tests, copied for each
stack, which then finds its database migrated and its static files collected."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Of all processes of one run of the tests; tests/settings.py makes it. Elsewhere nothing is copied.
SHARED = os.environ.get("TESTS_SHARED", "")
SET_UP = """
from django.core.management import call_command
from django.db import connections
call_command("setup")
call_command("collectstatic", interactive=False, verbosity=0)
connections.close_all()
"""


def lay_out(folder: Path, database: bool = True) -> None:
    """Make what a first start makes in an empty state folder, but for its secret key; without
    the database if it is elsewhere."""
    if not SHARED or (folder / "static").exists():
        return
    source = _made()
    if database:
        shutil.copy(source / "velo.sqlite3", folder)
    shutil.copytree(source / "static", folder / "static", copy_function=_link)
    (folder / "openvino").symlink_to(Path(SHARED) / "converted")


def password() -> str:
    """Of the user `admin` in its database."""
    return (_made() / "password").read_text()


@cache
def _made() -> Path:
    """By the process that comes first; the others wait."""
    folder = Path(SHARED) / "template"
    with (Path(SHARED) / "template.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "password").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            made = subprocess.run(
                [sys.executable, "manage.py", "shell", "--verbosity", "0", "-c", SET_UP],
                cwd=ROOT,
                env={
                    **os.environ,
                    "DJANGO_SETTINGS_MODULE": "velo_site.settings",
                    "DJANGO_SECRET_KEY": "a-template",
                    "DJANGO_ALLOWED_HOSTS": "localhost",
                    "VELO_VAR": str(folder),
                },
                capture_output=True,
                text=True,
                check=False,
            )
            found = re.search(r"password (\S+)", made.stdout)
            assert found, made.stdout + made.stderr
            (folder / "password").write_text(found[1])
    return folder


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)

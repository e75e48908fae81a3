"""Whatever the umask of the shell, another user of the machine reads nothing of Velo's state."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.stack import ROOT, environment, manage, stack
from velo_site.private import OTHERS


@contextmanager
def open_umask() -> Iterator[None]:
    """Processes that start in this context share all that they write."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def shared(folder: Path) -> list[str]:
    """What others may read, write or enter in a folder, itself included."""
    return [
        f"{path} {mode(path):o}"
        for path in (folder, *folder.rglob("*"))
        if not path.is_symlink() and mode(path) & OTHERS
    ]


def keep_private(var: Path, **knobs: object) -> None:
    """In a process of its own: it changes its umask."""
    code = "from velo_site.private import keep_private; keep_private()"
    command = [sys.executable, "-c", code]
    subprocess.run(command, cwd=ROOT, env=environment(var, **knobs), check=True)


def test_all_processes_write_private_files_and_an_old_wide_folder_is_narrowed(
    tmp_path: Path,
) -> None:
    var, outside = tmp_path / "var", tmp_path / "outside.txt"
    with open_umask():
        outside.touch()
        assert manage(var, "setup", DJANGO_ALLOWED_HOSTS="localhost").returncode == 0
        assert not shared(var)
        # As an older Velo has left it.
        for name in ("openvino/model.xml", "static/old.css", "backup.sqlite3"):
            (var / name).parent.mkdir(exist_ok=True)
            (var / name).touch()
        for path in (var, *var.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        (var / "link").symlink_to(outside)
        with stack(var, VELO_PREDICTOR="sleep") as velo:
            assert velo.transform("a").status == 200
            assert velo.get("/static/admin/css/base.css").status == 200
            assert (var / "velo.sqlite3-wal").exists()
            assert (var / "velo.sqlite3-shm").exists()
            assert list(var.glob("appendonlydir/*.incr.aof"))
            assert shared(var) == []
            assert mode(outside) == 0o666


def test_what_is_not_velos_keeps_its_mode(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    for name in ("models/model.bin", "velo.sqlite3", "notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
        (folder / name).chmod(0o644)
    (folder / "models").chmod(0o755)
    folder.chmod(0o755)
    keep_private(folder)
    assert mode(folder / "velo.sqlite3") == 0o600
    assert mode(folder) == mode(folder / "models") == 0o755
    assert mode(folder / "notes.txt") == mode(folder / "models/model.bin") == 0o644


def test_a_database_elsewhere_is_narrowed_and_nothing_beside_it(tmp_path: Path) -> None:
    database = tmp_path / "data" / "its.sqlite3"
    beside = [database.with_name("its.sqlite3-wal"), database.with_name("other.sqlite3")]
    database.parent.mkdir()
    for path in (database, *beside):
        path.touch()
        path.chmod(0o644)
    database.parent.chmod(0o755)
    keep_private(tmp_path / "var", DATABASE_URL=f"sqlite:///{database}")
    assert mode(database) == mode(beside[0]) == 0o600
    assert mode(beside[1]) == 0o644
    assert mode(database.parent) == 0o755


def test_static_files_outside_the_state_folder_stay_readable(tmp_path: Path) -> None:
    static = tmp_path / "static"
    knobs = {"DJANGO_SECRET_KEY": "x" * 50, "DJANGO_ALLOWED_HOSTS": "localhost"}
    ended = manage(tmp_path / "var", "collectstatic", "--noinput", STATIC_ROOT=static, **knobs)
    assert ended.returncode == 0, ended.stderr
    assert mode(static / "admin/css/base.css") == 0o644
    assert mode(static / "admin") == 0o755

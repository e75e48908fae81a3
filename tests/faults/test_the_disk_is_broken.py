"""A disk that is full or read-only, a database file that is damaged: each is said in a sentence."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.stack import free_port, manage, stack
from tests.waiting import eventually

HOSTS = {"DJANGO_ALLOWED_HOSTS": "localhost"}


class Disk:
    """A file system of its own, of a few megabytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        with suppress(OSError), self._filler.open("ab", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))

    def free(self) -> None:
        self._filler.unlink()

    def make_read_only(self) -> None:
        subprocess.run(["mount", "-o", "remount,ro", self.folder], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    options = "size=8m,mode=0700"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"NOT TESTED, a disk can't be mounted here: {mounted.stderr.decode().strip()}")
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", folder], check=True)


def refused(ended: subprocess.CompletedProcess[str]) -> str:
    """The sentence with which a command ended."""
    assert ended.returncode == 1
    [sentence] = [line for line in ended.stderr.splitlines() if line.startswith("manage.py: ")]
    assert "Traceback" not in ended.stderr
    return sentence


def test_readiness_and_callers_hear_of_a_full_disk(disk: Disk, tmp_path: Path) -> None:
    (disk.folder / "static").mkdir()  # so that nothing is laid out there: it hasn't the room
    knobs = {"VELO_PREDICTOR": "sleep", "STATIC_ROOT": tmp_path / "static"}
    with stack(disk.folder, **knobs) as velo:
        disk.fill()
        eventually(lambda: velo.get("/health/ready").status == 503)
        for answer in (velo.get("/health/ready"), velo.transform("a")):
            assert answer.status == 503
            assert "No space left on device" in answer.json["detail"]
            assert "free disk space" in answer.json["detail"]
        disk.free()
        eventually(lambda: velo.get("/health/ready").status == 200)
        eventually(lambda: velo.transform("b").status == 200)


def test_a_start_on_a_full_disk_says_so(disk: Disk) -> None:
    disk.fill()
    for command in ("setup", "serve"):
        said = refused(manage(disk.folder, command, **HOSTS, PORT=free_port()))
        assert f"The disk of {disk.folder} is full. Free some space" in said


def test_a_start_on_a_read_only_disk_says_so(disk: Disk) -> None:
    disk.make_read_only()
    for command in ("setup", "serve"):
        said = refused(manage(disk.folder, command, **HOSTS, PORT=free_port()))
        assert f"{disk.folder} can't be written: Read-only file system. Make it writable" in said
        assert "VELO_VAR" in said


def test_a_damaged_database_is_named_with_its_cure(tmp_path: Path) -> None:
    database = tmp_path / "velo.sqlite3"
    database.write_bytes(os.urandom(64 * 1024))
    for command in ("setup", "serve"):
        said = refused(manage(tmp_path, command, **HOSTS, PORT=free_port()))
        assert f"The database {database} is damaged: file is not a database" in said
        assert "Put a backup in its place" in said

"""Lets only the user that runs Velo read what Velo writes on this machine."""

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import unquote, urlsplit

from velo_site import env, state

log = logging.getLogger(__name__)

UMASK = 0o077  # files 0600, folders 0700
OTHERS = 0o077  # the permissions of everybody but the owner
FOLDERS = ("appendonlydir*", "benchmarks", "openvino", "static")  # that Velo makes in VELO_VAR
FILES = ("allowed-hosts", "secret-key*", "*.lock", "valkey.sock", "velo.sqlite3*")
BESIDE = ("", "-wal", "-shm", "-journal")  # what SQLite adds to the name of a database


def keep_private() -> None:
    """From now on this process and its children write private files; older files become private.

    Nothing outside VELO_VAR changes, except for a SQLite database that DATABASE_URL names, and
    nothing that belongs to another user.
    """
    os.umask(UMASK)
    with suppress(PermissionError):  # a VELO_VAR that belongs to another user
        for path in (*_ours(state.folder()), *_database()):
            with suppress(FileNotFoundError):  # Valkey and SQLite remove files while we look
                _narrow(path)


def _ours(folder: Path) -> Iterator[Path]:
    """What Velo made in its state folder; all of the folder, if it is for Velo alone."""
    if not folder.is_dir():
        return
    alone = _is_for_velo_alone(folder)
    if alone:
        yield folder
    for entry in folder.iterdir():
        names = FOLDERS if entry.is_dir() else FILES
        if alone or any(fnmatch(entry.name, name) for name in names):
            yield entry
            for parent, folders, files in os.walk(entry):
                yield from (Path(parent, name) for name in (*folders, *files))


def _is_for_velo_alone(folder: Path) -> bool:
    """False for a folder like /tmp, /srv or a home, which VELO_VAR may name too."""
    if folder.stat().st_mode & stat.S_ISVTX:
        return False
    return all(
        any(fnmatch(entry.name, name) for name in FOLDERS)
        for entry in folder.iterdir()
        if entry.is_dir()
    )


def _database() -> Iterator[Path]:
    """SQLite's files, wherever DATABASE_URL puts them."""
    with suppress(ValueError):  # not a URL: the settings say so
        url = urlsplit(env.text("DATABASE_URL"))
        path = unquote(url.path[1:])
        if url.scheme == "sqlite" and path:
            yield from (Path(path + suffix) for suffix in BESIDE)


def _narrow(path: Path) -> None:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode) or not found.st_mode & OTHERS:
        return
    if found.st_uid != os.geteuid():
        return
    try:
        path.chmod(stat.S_IMODE(found.st_mode) & ~OTHERS)
    except OSError as error:  # a read-only file system: whatever needs to write there says so
        log.warning("%s stays readable by other users: %s", path, error.strerror)

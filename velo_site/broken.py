"""Says in a sentence what is broken on this machine and how to fix it, instead of a traceback."""

import errno
import getpass
import os
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError

from velo_site import env, state

FULL = {errno.ENOSPC, errno.EDQUOT}
FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
# What SQLite says, in words that stand in its error.
SQLITE_DAMAGED = ("malformed", "is not a database")
SQLITE_FORBIDDEN = ("readonly database", "unable to open database file")
SQLITE_FULL = ("disk is full", "disk I/O error")


def explain(error: Exception) -> str | None:
    """None for whatever isn't known to be a fault of the machine's or of its settings."""
    if isinstance(error, ImproperlyConfigured):
        return str(error)
    if isinstance(error, DatabaseError):
        return _database(str(error))
    if isinstance(error, OSError):
        return _file(error)
    return None


def _file(error: OSError) -> str | None:
    path = Path(os.fsdecode(error.filename)) if error.filename else state.folder()
    if error.errno in FULL:
        return f"The disk of {path} is full. Free some space there, then start again."
    if error.errno in FORBIDDEN and _is_state(path):
        inside = path.is_relative_to(state.folder())
        return _forbidden(state.folder() if inside else path, error.strerror or "")
    return None


def _is_state(path: Path) -> bool:
    """Whether Velo has to write there: other files it only reads, or not even that."""
    places = [state.folder(), Path(env.text("STATIC_ROOT", str(state.folder())))]
    return any(path.is_relative_to(place) or place.is_relative_to(path) for place in places)


def _forbidden(path: Path, why: str) -> str:
    return (
        f"{path} can't be written: {why}. Make it writable for the user {getpass.getuser()}, or "
        "name another folder in VELO_VAR."
    )


def _database(said: str) -> str:
    url = urlsplit(env.text("DATABASE_URL"))
    if url.scheme not in ("", "sqlite"):
        return f"The database at {url.hostname} can't be used: {said.strip()}. Check DATABASE_URL."
    path = Path(url.path[1:]) if url.path[1:] else state.folder() / "velo.sqlite3"
    if any(words in said for words in SQLITE_DAMAGED):
        return (
            f"The database {path} is damaged: {said}. Put a backup in its place, or save what can "
            f"be read: `sqlite3 {path} .recover | sqlite3 recovered.sqlite3`. Or move it away to "
            "begin with an empty one."
        )
    if any(words in said for words in SQLITE_FORBIDDEN):
        return _forbidden(path, said)
    if any(words in said for words in SQLITE_FULL):
        return f"The disk of {path} is full or broken: {said}. Free some space, then start again."
    if "locked" in said:
        return (
            f"The database {path} is locked: another process has been writing to it for too long. "
            "End that process, then start again."
        )
    return f"The database {path} can't be used: {said}"

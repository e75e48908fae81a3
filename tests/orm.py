"""Velo's models over the database of a running stack, without a process that would read it."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections
from django.test import override_settings

from tests.stack import Stack

ALIAS = "of a stack"


@contextmanager
def database_of(velo: Stack) -> Iterator[str]:
    """The alias of its SQLite file, for `objects.using`, whether or not the test may use the
    database of the tests."""
    default = connections.databases["default"]
    connections.databases[ALIAS] = {**default, "NAME": velo.folder / "velo.sqlite3"}
    connection = connections[ALIAS]
    connection.ensure_connection = lambda: None  # pytest-django's forbids it
    try:
        connection.connect()
        with override_settings(VELO_LEASE=float(str(velo.knobs.get("VELO_LEASE", 3)))):
            yield ALIAS
    finally:
        connection.close()
        del connections[ALIAS], connections.databases[ALIAS]

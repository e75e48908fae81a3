"""Reports: what each worker says of itself, until the database has it."""

import json
from collections.abc import Mapping
from typing import Any, cast

from workers.broker.connection import connection, script

REPORTS = "velo:reports"  # a hash: worker to its last report
WORKERS_AT_MOST = 5_000  # whose reports wait while the database is away


def report(worker: str, said: Mapping[str, Any]) -> None:
    """In place of its last report. Raises RedisError."""
    script("report")(
        keys=[REPORTS], args=[worker, json.dumps(said), WORKERS_AT_MOST], client=connection()
    )


def waiting() -> dict[str, bytes]:
    """By worker, the reports that the database doesn't have. Raises RedisError."""
    found = cast(dict[bytes, bytes], connection().hgetall(REPORTS))
    return {worker.decode(): said for worker, said in found.items()}


def is_waiting(worker: str) -> bool:
    """Whether the database doesn't have this worker's last report. Raises RedisError."""
    return bool(connection().hexists(REPORTS, worker))


def forget(written: Mapping[str, bytes]) -> None:
    """The database has them. Newer reports wait on. Raises RedisError."""
    words = [word for worker, said in written.items() for word in (worker, said)]
    if words:
        script("reported")(keys=[REPORTS], args=words, client=connection())

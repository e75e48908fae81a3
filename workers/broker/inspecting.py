"""What stands in queues, registries and jobs, for people: read as it is, without moving or cleaning
anything, and as JSON only."""

import zlib
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, cast

import orjson
from rq.defaults import RQ_KEY_PREFIX
from rq.job import Job
from rq.results import Result
from rq.utils import str_to_date

from workers.broker.clock import clock
from workers.broker.connection import connection
from workers.broker.names import leases_key
from workers.broker.wire import JSONSerializer

ATTEMPTS = 10  # that RQ keeps of a job
MOST_BYTES = 4 * 2**20  # of a call or an answer, unpacked
UNREADABLE = "It isn't JSON, so it isn't shown."


class Place(StrEnum):
    """Where a job of a queue can stand."""

    QUEUED = "queued"
    STARTED = "started"
    FINISHED = "finished"
    FAILED = "failed"
    SCHEDULED = "scheduled"
    DEFERRED = "deferred"
    CANCELED = "canceled"

    def key(self, queue: str) -> str:
        """RQ's: a list of the queued jobs, a sorted set of the others."""
        part = {Place.QUEUED: "queue", Place.STARTED: "wip"}.get(self, self.value)
        return f"{RQ_KEY_PREFIX}:{part}:{queue}"


# Of what has ended the registry says until when it is kept, in Unix seconds; a number below 0: for
# ever. It goes when RQ cleans up, which is every ten minutes.
EXPIRING = Place.FINISHED, Place.FAILED


@dataclass(frozen=True)
class QueueCounts:
    name: str
    workers: int  # alive, that serve it
    jobs: dict[Place, int]


@dataclass(frozen=True)
class JobLine:
    """What a list shows of a job. Times are UTC."""

    id: str
    status: str  # empty if the job is gone
    description: str  # begins with the input
    enqueued: datetime | None
    started: datetime | None
    ended: datetime | None
    worker: str
    crashes: int  # of workers that had it


@dataclass(frozen=True)
class Attempt:
    """What came of a job once."""

    at: datetime
    outcome: str  # successful, failed, stopped, retried, …
    worker: str
    seconds: float | None
    traceback: str
    answer: Any  # JSON, or UNREADABLE


@dataclass(frozen=True)
class JobRecord:
    """All that is known of a job."""

    line: JobLine
    queue: str
    request: str  # the id of the request that it belongs to
    client: str  # that asked
    created: datetime | None
    timeout: str
    retries_left: str
    crash_log: str  # a line for each crash
    function: str
    arguments: Any  # JSON: {"args": …, "kwargs": …}, or UNREADABLE
    attempts: list[Attempt] = field(default_factory=list)  # the latest first


def counts(names: Sequence[str]) -> list[QueueCounts]:
    """Of these queues. One round trip."""
    now = clock.now()
    with connection().pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.zcount(leases_key(name), now, "+inf")
            for place in Place:
                _count(pipeline, place, name, now)
        answers = iter(pipeline.execute())
    return [
        QueueCounts(name, next(answers), {place: _counted(place, answers) for place in Place})
        for name in names
    ]


def _count(pipeline: Any, place: Place, queue: str, now: float) -> None:
    if place is Place.QUEUED:
        pipeline.llen(place.key(queue))
        return
    pipeline.zcard(place.key(queue))
    if place in EXPIRING:
        pipeline.zcount(place.key(queue), 0, now)


def _counted(place: Place, answers: Any) -> int:
    total: int = next(answers)
    return total - next(answers) if place in EXPIRING else total


def listed(queue: str, place: Place, first: int, most: int) -> list[str]:
    """Ids of up to `most` jobs from the position `first` on: waiting jobs in the order in which
    they are done, ended jobs the latest first. A waiting job has as many positions as inputs."""
    redis, key = connection(), place.key(queue)
    if place is Place.QUEUED:
        found = cast(list[bytes], redis.lrange(key, first, first + most - 1))
    elif place in EXPIRING:
        now = clock.now()
        found = cast(
            list[bytes], redis.zrevrangebyscore(key, "+inf", f"({now}", start=first, num=most)
        )
        if len(found) < most:  # then jobs that are kept for ever
            start = max(0, first - redis.zcount(key, f"({now}", "+inf"))
            more = redis.zrevrangebyscore(key, "(0", "-inf", start, most - len(found))
            found += cast(list[bytes], more)
    else:
        found = cast(list[bytes], redis.zrange(key, first, first + most - 1))
    ids = [entry.decode(errors="replace") for entry in found]
    if place is Place.QUEUED:
        return list(dict.fromkeys(ids))
    if place is Place.STARTED:  # each with the id of its execution behind a colon
        return [entry.rpartition(":")[0] for entry in ids]
    return ids


LINE = (
    *("status", "description", "enqueued_at", "started_at", "ended_at", "worker_name", "crashes"),
)


def lines(ids: Sequence[str]) -> list[JobLine]:
    """One round trip."""
    with connection().pipeline(transaction=False) as pipeline:
        for job_id in ids:
            pipeline.hmget(Job.key_for(job_id), *LINE)
        found = pipeline.execute()
    return [
        _line(job_id, dict(zip(LINE, fields, strict=True)))
        for job_id, fields in zip(ids, found, strict=True)
    ]


def _line(job_id: str, fields: dict[str, bytes | None]) -> JobLine:
    crashes = _text(fields.get("crashes"))
    return JobLine(
        id=job_id,
        status=_text(fields.get("status")),
        description=_text(fields.get("description")),
        enqueued=_date(fields.get("enqueued_at")),
        started=_date(fields.get("started_at")),
        ended=_date(fields.get("ended_at")),
        worker=_text(fields.get("worker_name")),
        crashes=int(crashes) if crashes.isdigit() else 0,
    )


def job(queue: str, job_id: str) -> JobRecord | None:
    """None if there is no such job in this queue. One round trip."""
    with connection().pipeline(transaction=False) as pipeline:
        pipeline.hgetall(Job.key_for(job_id))
        pipeline.xrevrange(Result.get_key(job_id), count=ATTEMPTS)
        raw, results = pipeline.execute()
    fields = {name.decode(errors="replace"): value for name, value in raw.items()}
    if not fields or _text(fields.get("origin")) != queue:
        return None
    function, arguments = _call(fields.get("data", b""))
    return JobRecord(
        line=_line(job_id, fields),
        queue=queue,
        request=_text(fields.get("request")),
        client=_text(fields.get("client")),
        created=_date(fields.get("created_at")),
        timeout=_text(fields.get("timeout")),
        retries_left=_text(fields.get("retries_left")),
        crash_log=_text(fields.get("crash_log")),
        function=function,
        arguments=arguments,
        attempts=[_attempt(entry_id, entry) for entry_id, entry in results],
    )


def _call(data: bytes) -> tuple[str, Any]:
    try:
        function, _, args, kwargs = orjson.loads(_unpacked(data))
    except (ValueError, TypeError, zlib.error):
        return "", UNREADABLE
    return str(function), {"args": args, **({"kwargs": kwargs} if kwargs else {})}


def _attempt(entry_id: bytes, raw: dict[bytes, bytes]) -> Attempt:
    fields = {name.decode(errors="replace"): value for name, value in raw.items()}
    try:
        outcome = Result.Type(int(fields["type"])).name.lower().replace("_", " ")
    except (KeyError, ValueError):
        outcome = "unknown"
    try:
        traceback = _unpacked(b64decode(fields.get("exc_string", b""))).decode(errors="replace")
    except (ValueError, zlib.error):
        traceback = UNREADABLE if fields.get("exc_string") else ""
    try:
        started = float(fields["execution_started_at"])
        seconds = max(0.0, float(fields["execution_ended_at"]) - started)
    except (KeyError, ValueError):
        seconds = None
    milliseconds = int(entry_id.partition(b"-")[0])
    return Attempt(
        at=datetime.fromtimestamp(milliseconds / 1000, tz=UTC),
        outcome=outcome,
        worker=_text(fields.get("worker_name")),
        seconds=seconds,
        traceback=traceback,
        answer=_answer(fields.get("return_value")),
    )


def _answer(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return JSONSerializer.loads(b64decode(value))
    except ValueError:
        return UNREADABLE


def _unpacked(data: bytes) -> bytes:
    """Raises zlib.error, also if it is longer than MOST_BYTES."""
    unpacking = zlib.decompressobj()
    unpacked = unpacking.decompress(data, MOST_BYTES)
    if unpacking.unconsumed_tail:
        raise zlib.error("too long")
    return unpacked


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")


def _date(value: bytes | None) -> datetime | None:
    try:
        return str_to_date(value).replace(tzinfo=UTC) if value else None
    except ValueError:
        return None

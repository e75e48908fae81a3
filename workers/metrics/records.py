"""Records of requests: noted in memory, sent to Redis each second, written by the elected worker.

Nothing of this is on the path of a request, and nothing waits for it: what is over the limits here,
while Redis or the database is away, is dropped, the oldest first.
"""

import json
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, cast
from uuid import uuid4

from django.db import transaction

from workers.broker import inspecting
from workers.broker.connection import connection
from workers.models import RequestRecord
from workers.values.version_id import VersionId

log = logging.getLogger(__name__)

KEY = "velo:records"  # a list: JSON, that waits for the database
WAITING_AT_MOST = 20_000  # records in that list
PENDING_AT_MOST = 2_000  # in a process
WRITTEN_AT_ONCE = 1_000
ALONE_AT_MOST = 10  # refusals of one sort within WINDOW that have a row each
WINDOW = 10.0  # seconds
BODY_CHARS = 20_000  # of an input that is kept


@dataclass
class Record:
    """Of one request, with the fields of RequestRecord."""

    request_id: str
    endpoint: str
    status: int
    client: str = ""
    label: str = ""  # "name@version"
    worker: str = ""
    code: str = ""
    detail: str = ""
    inputs: int = 0
    tokens: int = 0
    size: int = 0
    queue_seconds: float | None = None
    model_seconds: float | None = None
    total_seconds: float | None = None
    job: str = ""
    digest: str = ""
    body: str = ""
    count: int = 1
    at: float = field(default_factory=time.time)  # Unix seconds
    uid: str = field(default_factory=lambda: uuid4().hex)

    @property
    def sort(self) -> tuple[str, str, int, str]:
        """Refusals of one sort are counted together when they are many."""
        return self.endpoint, self.client, self.status, self.code


class Records:
    """Of one process, that Redis hasn't got yet. Any thread may add."""

    def __init__(self) -> None:
        self._pending: deque[Record] = deque(maxlen=PENDING_AT_MOST)
        self._window = 0.0  # when it began, by the monotonic clock
        self._alone: dict[tuple[str, str, int, str], int] = {}  # in this window
        self._together: dict[tuple[str, str, int, str], Record] = {}

    def add(self, record: Record) -> None:
        """It gets a row of its own."""
        self._pending.append(record)

    def add_refusal(self, record: Record) -> None:
        """It gets a row of its own, or one with others of its sort."""
        if time.monotonic() > self._window + WINDOW:
            self._close_window()
        alone = self._alone.get(record.sort, 0)
        if alone < ALONE_AT_MOST:
            self._alone[record.sort] = alone + 1
            self._pending.append(record)
        elif together := self._together.get(record.sort):
            together.count += 1
        else:
            self._together[record.sort] = record

    def _close_window(self) -> None:
        together, self._together = self._together, {}
        self._pending.extend(together.values())
        self._window, self._alone = time.monotonic(), {}

    def flush(self) -> None:
        """Send what is pending. Raises RedisError: then it stays pending."""
        if self._together and time.monotonic() > self._window + WINDOW:
            self._close_window()
        some = [self._pending.popleft() for _ in range(len(self._pending))]
        if not some:
            return
        try:
            with connection().pipeline() as pipeline:
                pipeline.rpush(KEY, *(json.dumps(asdict(one)) for one in some))
                pipeline.ltrim(KEY, -WAITING_AT_MOST, -1)
                pipeline.execute()
        except Exception:
            self._pending.extendleft(reversed(some))
            raise


def is_waiting() -> bool:
    """Raises RedisError."""
    return bool(connection().exists(KEY))


def write() -> None:
    """What waits goes into the database; what is there already isn't written again. One process at
    a time may do this. Raises RedisError and DatabaseError."""
    while found := cast(list[bytes], connection().lrange(KEY, 0, WRITTEN_AT_ONCE - 1)):
        rows = [row for raw in found if (row := _row(raw))]
        with transaction.atomic():
            RequestRecord.objects.bulk_create(rows, ignore_conflicts=True)
        # By their values: the list may have been cut at its front meanwhile.
        with connection().pipeline(transaction=False) as pipeline:
            for raw in found:
                pipeline.lrem(KEY, 1, raw.decode())
            pipeline.execute()


def _row(raw: bytes) -> RequestRecord | None:
    """None for what another version of Velo has written."""
    try:
        kept = Record(**json.loads(raw))
        label = VersionId.parse(kept.label) if kept.label else None
    except (ValueError, TypeError):
        log.warning("a record of a request can't be read; it is dropped")
        return None
    fields = asdict(kept)
    del fields["label"]
    fields["at"] = datetime.fromtimestamp(kept.at, tz=UTC)
    fields["model"] = label.model if label else ""
    fields["version"] = label.version if label else ""
    fields = {name: _storable(name, value) for name, value in fields.items()}
    fields["attempts"] = _attempts(kept.label, kept.job) if kept.job else []
    return RequestRecord(**fields)


def _storable(name: str, value: Any) -> Any:
    """A text as every database takes it: without NUL and lone surrogates, and not too long."""
    if not isinstance(value, str):
        return value
    text = value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    field: Any = RequestRecord._meta.get_field(name)
    return text[: field.max_length]


def _attempts(label: str, job_id: str) -> Sequence[Mapping[str, Any]]:
    """Of a failed job, the first first."""
    record = inspecting.job(label, job_id)
    if record is None:
        return []
    crashes = [{"at": "", "worker": "", "outcome": line} for line in _lines(record.crash_log)]
    ended = [
        {
            "at": one.at.isoformat(),
            "worker": one.worker,
            "outcome": one.outcome,
            "seconds": one.seconds,
        }
        for one in reversed(record.attempts)
    ]
    return [*crashes, *ended]


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line]

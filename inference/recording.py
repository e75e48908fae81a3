"""What is counted and kept of each request for a model: off its path, in memory at first."""

import hashlib
from collections.abc import Mapping
from http import HTTPStatus
from io import BytesIO
from random import SystemRandom
from typing import Any

from django.conf import settings

from inference import timing
from inference.callers import Caller
from inference.errors import Failure
from inference.protocols import spoken
from workers.metrics import counters
from workers.metrics.records import BODY_CHARS, Record

MILLISECONDS = 1000
_chance = SystemRandom()


def failed(caller: Caller, failure: Failure) -> None:
    """The caller gets this error."""
    caller.failure = failure
    timing.timings().recorder.counters.add(counters.ERRORS, failure.code)


def answered(
    caller: Caller,
    method: str,
    path: str,
    status: int,
    seconds: float | None = None,
    environ: Mapping[str, Any] | None = None,
) -> None:
    """The request has its answer, after `seconds`. Without `environ` its body isn't known."""
    endpoint = spoken.endpoint(path) if method == "POST" else None
    if endpoint is None:
        return
    recorder = timing.timings().recorder
    version = caller.predictions[0].model_version if caller.predictions else ""
    recorder.counters.add(counters.REQUESTS, endpoint, version, str(status))
    is_error = status >= HTTPStatus.BAD_REQUEST
    if not (is_error or _is_kept(seconds)):
        return
    record = _record(caller, endpoint, status, seconds)
    if environ is not None:
        _add_body(record, environ)
    # Every failed job has a row. Other errors may come in floods.
    if is_error and not caller.job:
        recorder.records.add_refusal(record)
    else:
        recorder.records.add(record)


def _is_kept(seconds: float | None) -> bool:
    """Whether a success gets a record."""
    slow: int = settings.VELO_RECORD_SLOW_MS
    if slow and seconds is not None and seconds * MILLISECONDS >= slow:
        return True
    return _chance.random() < settings.VELO_RECORD_SHARE


def _record(caller: Caller, endpoint: str, status: int, seconds: float | None) -> Record:
    failure, predictions = caller.failure, caller.predictions
    return Record(
        request_id=caller.request_id,
        endpoint=endpoint,
        status=status,
        client=caller.grant.client if caller.grant else "",
        label=predictions[0].model_version if predictions else caller.label,
        worker=",".join(sorted({one.worker for one in predictions})),
        code=failure.code if failure else "",
        detail=failure.detail if failure else "",
        inputs=caller.inputs,
        tokens=sum(one.tokens for one in predictions),
        queue_seconds=max((one.queue_time for one in predictions), default=None),
        model_seconds=max((one.model_time for one in predictions), default=None),
        total_seconds=seconds,
        job=caller.job,
    )


def _add_body(record: Record, environ: Mapping[str, Any]) -> None:
    """Its length and digest; with VELO_RECORD_INPUT_DAYS its text too."""
    stream = environ.get("wsgi.input")
    if not isinstance(stream, BytesIO):  # not behind the door
        return
    content = stream.getvalue()
    record.size, record.digest = len(content), hashlib.sha256(content).hexdigest()
    if settings.VELO_RECORD_INPUT_DAYS and "HTTP_CONTENT_ENCODING" not in environ:
        record.body = content[: 4 * BODY_CHARS].decode(errors="replace")[:BODY_CHARS]

"""What the page of a job shows; its input and answers only with the permission to read them."""

from collections.abc import Iterator
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from workers.admin.addresses import queue_link
from workers.admin.look import (
    NOTHING,
    as_json,
    as_written,
    badge,
    link,
    moment,
    page,
    seconds,
    table,
    whole,
)
from workers.broker.inspecting import UNREADABLE, Attempt, JobRecord
from workers.models import Worker

HIDDEN = "Only people with the permission “Can read the inputs and the answers of jobs” see it."


def fieldsets(record: JobRecord, reads: bool) -> list[dict[str, Any]]:
    """A heading, and labelled fields, for each part of the page."""
    line = record.line
    crashes = badge("failed", text=f"{line.crashes} crashes") if line.crashes else ""
    state = format_html("{} {}", badge(line.status or "unknown"), crashes)
    facts = [
        ("State", state),
        ("Queue", queue_link(record.queue)),
        ("Request", record.request or NOTHING),
        ("Client", record.client or NOTHING),
        ("Worker", _worker(line.worker)),
        ("Created", moment(record.created)),
        ("Enqueued", moment(line.enqueued)),
        ("Started", moment(line.started)),
        ("Ended", moment(line.ended)),
        ("Time limit", whole(f"{record.timeout} s" if record.timeout else NOTHING)),
        ("Retries left", record.retries_left or NOTHING),
        ("Calls", record.function or UNREADABLE),
        ("Input", _read(record.arguments) if reads else HIDDEN),
    ]
    parts = [
        {"name": "", "fields": facts, "wide": False},
        {"name": "Attempts", "fields": [("", _attempts(record, reads))], "wide": True},
    ]
    if record.crash_log:
        log = [("", as_written(record.crash_log))]
        parts.insert(1, {"name": "Crashes", "fields": log, "wide": True})
    return parts


def _worker(name: str) -> SafeString:
    row = Worker.objects.filter(pk=name).first() if name else None
    return whole(link(page(row), name) if row else name or NOTHING)


def _attempts(record: JobRecord, reads: bool) -> SafeString:
    rows = [
        (
            moment(attempt.at),
            badge(attempt.outcome),
            attempt.worker[:12] or NOTHING,
            seconds(attempt.seconds),
            format_html_join("", "{}", ((part,) for part in _came_of(attempt, reads))),
        )
        for attempt in record.attempts
    ]
    return table(("ended", "outcome", "worker", "took", "what came of it"), rows)


def _came_of(attempt: Attempt, reads: bool) -> Iterator[object]:
    if attempt.traceback:
        yield as_written(attempt.traceback)
    if attempt.answer is not None:
        yield _read(attempt.answer) if reads else HIDDEN


def _read(value: Any) -> SafeString:
    return as_written(UNREADABLE) if value is UNREADABLE else as_json(value)

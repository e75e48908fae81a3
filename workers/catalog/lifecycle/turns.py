"""Checks wait for their turn. The database is their queue, so none is lost with a worker.

A check that was asked for waits until a worker takes it: its version is checking then, and
`checked_at` is None. From there on `checked_at` is the last sign of life.
"""

from datetime import datetime
from typing import Any

from django.utils import timezone

from workers.catalog.lifecycle.states import State
from workers.models import ModelVersion

TURN = "turn"  # the first step of each check


def asked() -> dict[str, Any]:
    """The first step of a check, while it waits."""
    since = timezone.now().isoformat()
    return {"step": TURN, "outcome": "waiting", "detail": "", "seconds": None, "since": since}


def waits(version: ModelVersion) -> bool:
    """Whether a check of this version has been asked for, and hasn't begun."""
    return version.state == State.CHECKING and version.checked_at is None


def waiting_checks() -> list[ModelVersion]:
    """The versions whose checks wait, in the order of the requests. One query."""
    found = ModelVersion.objects.filter(state=State.CHECKING, checked_at__isnull=True)
    return sorted(found, key=lambda version: (_since(version), version.pk))


def take_check() -> ModelVersion | None:
    """The version whose turn it is: its check begins now, and no other process begins it. None if
    nothing waits."""
    for version in waiting_checks():
        now = timezone.now()
        since = _since(version)
        seconds = (now - datetime.fromisoformat(since)).total_seconds() if since else None
        turn = {**asked(), "outcome": "passed", "seconds": seconds, "since": since}
        found = ModelVersion.objects.filter(
            pk=version.pk, state=State.CHECKING, checked_at__isnull=True
        )
        if found.update(checked_at=now, checks=[turn]):
            version.checked_at, version.checks = now, [turn]
            return version
    return None


def turn_of(version: ModelVersion) -> str:
    """What a check waits for; empty if it doesn't wait. Two queries."""
    if not waits(version):
        return ""
    begun = ModelVersion.objects.filter(state=State.CHECKING, checked_at__isnull=False).count()
    waiting = [one.pk for one in waiting_checks()]
    before = begun + (waiting.index(version.pk) if version.pk in waiting else 0)
    if not before:
        return "waits for a worker"
    return f"waits for its turn, after {before} other check{'s' if before > 1 else ''}"


def _since(version: ModelVersion) -> str:
    """When its check was asked for, in ISO 8601 and UTC; empty if an older Velo wrote the row."""
    first = version.checks[0] if version.checks else {}
    return str(first.get("since", ""))

"""Until when somebody waits for a job, and since when: by the times that its meta holds."""

import math
from typing import Any

from workers.broker.claims import Claim


def _time(meta: Any, name: str) -> float | None:
    """A time that dispatch noted in the job's meta; a job of somebody else's may hold anything
    there."""
    noted = meta.get(name) if isinstance(meta, dict) else None
    return noted if isinstance(noted, float | int) else None


def is_late(meta: Any, now: float) -> bool:
    """Whether the job has a deadline and it is over. `now`: Redis's time."""
    deadline = _time(meta, "deadline")
    return deadline is not None and now > deadline


def remaining(claimed: Claim, now: float) -> float:
    """Seconds that somebody waits for this job."""
    deadline = _time(claimed.meta, "deadline")
    return math.inf if deadline is None or deadline < now else deadline - now


def is_asked_again(claimed: Claim) -> bool:
    """Put back into the queue when its deadline had passed: by a person, in the admin."""
    enqueued = claimed.enqueued_at
    return enqueued is not None and is_late(claimed.meta, enqueued.timestamp())


def nobody_waits(claimed: Claim, now: float) -> bool:
    """Its caller has gone, and no person has asked for it again."""
    return is_late(claimed.meta, now) and not is_asked_again(claimed)


def waited(claimed: Claim, now: float) -> float:
    """Seconds in the queue."""
    since = _time(claimed.meta, "enqueued")
    if is_late(claimed.meta, now) and claimed.enqueued_at:
        since = claimed.enqueued_at.timestamp()  # it is asked again
    return 0.0 if since is None else max(0.0, now - since)

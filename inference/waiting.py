"""What a caller waits for, and what may become of it; the exchange fills it in."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from workers.broker.enqueue import Load, NewJob, Verdict
from workers.broker.wire import SUCCESSFUL


@dataclass(frozen=True)
class Refused:
    """There was no room, nobody to do it, or the client is over a limit."""

    load: Load
    verdict: Verdict = field(compare=False)


@dataclass(frozen=True)
class Ended:
    """A worker has had the job: the last entry of its result stream."""

    fields: dict[bytes, bytes]

    @property
    def succeeded(self) -> bool:
        return self.fields.get(b"type") == SUCCESSFUL


@dataclass(frozen=True)
class Lost:
    """Redis has lost the job, twice."""


@dataclass(frozen=True)
class Stranded:
    """Nobody serves its queue any more; the job was withdrawn."""

    crashes: int  # of workers that had it


Outcome = Refused | Ended | Lost | Stranded


class Call:
    """One job of a request, and what became of it."""

    def __init__(self, job: NewJob, request: "Request") -> None:
        self.job = job
        self.request = request
        self.enqueued = False  # Redis has said so
        self.again = False  # it has been lost once
        self.seen: Any = "0-0"  # the last entry of its result stream
        self.outcome: Outcome | Exception | None = None

    @property
    def is_copy(self) -> bool:
        """Whether this is a shadow's copy, for which no caller waits."""
        return self.job.compare is not None


class Request:
    """The jobs of one caller, who waits for all of them at a time."""

    def __init__(self, jobs: Sequence[NewJob], elsewhere: Callable[[], bool] | None = None) -> None:
        self.elsewhere = elsewhere  # whether its caller has another version to ask
        self.until = time.monotonic() + jobs[0].seconds
        self.calls = [Call(job, self) for job in jobs]
        self.verdict: Verdict | None = None  # what was said at admission
        # Two threads end calls. The next number of a counter is taken in one step.
        self._ended = count(1)
        self._woken = count()
        # A bare lock, since every request needs one: an Event is built of three.
        self._over = threading.Lock()
        self._over.acquire()

    def end(self, call: Call, outcome: Outcome | Exception) -> None:
        """Once for each call. Wakes the caller after the last call, or if a call didn't succeed."""
        call.outcome = outcome
        done = next(self._ended) == len(self.calls)
        succeeded = isinstance(outcome, Ended) and outcome.succeeded
        if (done or not succeeded) and next(self._woken) == 0:
            self._over.release()

    def wait(self) -> list[Outcome | None]:
        """Of each job, in their order. None: not known when the time was over, or when another job
        didn't succeed."""
        self._over.acquire(timeout=max(0.0, self.until - time.monotonic()))
        outcomes: list[Outcome | None] = []
        for call in self.calls:
            if isinstance(call.outcome, Exception):
                raise call.outcome
            outcomes.append(call.outcome)
        return outcomes

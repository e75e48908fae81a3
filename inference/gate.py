"""The gate: which requests a web process lets in, and which it refuses before Django sees them.

There are three rooms: for models, for health checks, and for everything else. Each has its own
places and its own threads, so that a crowd in one of them doesn't keep the others waiting.
All of this runs in the event loop's thread.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson
from django.conf import settings
from django.urls import reverse

from inference import bodies
from inference.errors import APIError, ClientShare, QueueFull
from inference.protocols import oip, spoken, tei
from inference.protocols.forms import Form, form
from inference.threads import Threads

CRAMPED = 2.0  # seconds that a body may take while there is no room for others
REMEMBERED = 0.02  # seconds for which a full queue isn't asked again
# Of the bodies of all requests for models that are inside together. A compressed body counts with
# what it may become. A body that is alone there is let in, whatever its size.
BODIES_BYTES = 256 * 1024 * 1024
INFLATED = 1032  # bytes that a compressed byte becomes at most (deflate)
# Of other addresses than models'. Few threads: all threads compete for the interpreter.
HEALTH_PLACES, HEALTH_THREADS = 64, 2
PAGE_PLACES, PAGE_THREADS = 256, 4

Headers = list[tuple[str, str]]
Answer = tuple[int, Headers, bytes]  # the first is the status


class Refusal:
    """An error, made into HTTP once for each protocol."""

    def __init__(self, error: APIError, close: bool = False) -> None:
        """`close`: the connection can't be used any more."""
        self.failure = error.failure
        self._close = close
        self._said: dict[Form, Answer] = {}

    def said(self, path: str) -> Answer:
        """In the form that this path speaks."""
        speaks = form(path)
        if speaks not in self._said:
            found = speaks(self.failure)
            body = orjson.dumps(found.body)
            headers = [("Content-Type", found.media_type), ("Content-Length", str(len(body)))]
            headers += found.headers.items()
            if self._close:
                headers.append(("Connection", "close"))
            self._said[speaks] = found.status, headers, body
        return self._said[speaks]


class Room:
    """The places for requests of one sort. A request has its place until it is answered."""

    def __init__(self, name: str, places: int, share: int, threads: int) -> None:
        """`share`: the places that one client may have, 0 for all."""
        self.threads = Threads(name, threads)
        self._places = places
        self._share = share
        self._inside = 0
        self._bytes = 0  # of their bodies
        self._of: Counter[str | None] = Counter()  # requests inside, by client
        self._cramped_until = 0.0
        self._bodies: dict[asyncio.Timeout, float] = {}  # being read, and since when
        again = f"Try again in {QueueFull.retry_after} s"
        self._full = Refusal(
            QueueFull(
                f"{places} requests for {name} are being answered by this web process already, "
                f"and no more may. {again}, or add workers or web processes."
            )
        )
        self._heavy = Refusal(
            QueueFull(
                f"The bodies of the requests for {name} that are being answered by this web "
                f"process have {BODIES_BYTES} bytes together, and may not have more. {again}."
            )
        )
        self._shared = Refusal(
            ClientShare(
                f"{share} requests of your address for {name} are being answered already, and no "
                f"more may. {again}, with fewer requests at a time."
            )
        )

    def enter(self, client: str | None, weight: int) -> Refusal | None:
        """With a body of `weight` bytes. None: let in."""
        if self._share and self._of[client] >= self._share:
            return self._shared
        if self._inside >= self._places:
            self._hurry()
            return self._full
        if self._bytes and self._bytes + weight > BODIES_BYTES:
            return self._heavy
        self._inside += 1
        self._bytes += weight
        self._of[client] += 1
        return None

    def grow(self, weight: int, more: int) -> Refusal | None:
        """By `more` bytes a body that has `weight` already. None: there is room."""
        if self._bytes > weight and self._bytes + more > BODIES_BYTES:
            return self._heavy
        self._bytes += more
        return None

    def leave(self, client: str | None, weight: int) -> None:
        self._inside -= 1
        self._bytes -= weight
        self._of[client] -= 1
        if not self._of[client]:
            del self._of[client]

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Raises TimeoutError when a body takes too long: sooner while the room is full."""
        now = time.monotonic()  # asyncio's clock
        patience: float = settings.VELO_READ_TIMEOUT
        if now < self._cramped_until:
            patience = min(patience, CRAMPED)
        limit = asyncio.timeout_at(now + patience)
        self._bodies[limit] = now
        try:
            async with limit:
                yield
        finally:
            del self._bodies[limit]

    def _hurry(self) -> None:
        """Give the bodies that are being read CRAMPED seconds in all."""
        now = time.monotonic()
        crowded = now < self._cramped_until  # bodies that came since then know it already
        self._cramped_until = now + CRAMPED
        if crowded:
            return
        for limit, since in self._bodies.items():
            when = limit.when()
            if when is not None and not limit.expired():
                limit.reschedule(min(when, since + CRAMPED))


@dataclass
class Visit:
    """A request that was let in."""

    room: Room
    client: str | None
    limit: bodies.Limit  # of its body
    compressed: bool
    weight: int = 0  # bytes that its body may have, decompressed

    def weight_of(self, length: int) -> int:
        """Of a body of `length` bytes."""
        return min(length * INFLATED, self.limit.bytes) if self.compressed else length


class Gate:
    def __init__(self) -> None:
        most: int = settings.VELO_WEB_THREADS
        self._models = Room("models", most, settings.VELO_CLIENT_MAX, most)
        self._health = Room("health", HEALTH_PLACES, HEALTH_PLACES // 2, HEALTH_THREADS)
        self._pages = Room("pages", PAGE_PLACES, PAGE_PLACES // 2, PAGE_THREADS)
        self._transform = reverse("transform")
        self._of_models = reverse("models") + "/"
        self._of_health = reverse("live").rpartition("/")[0] + "/"
        self._queue_full_until = 0.0
        self._queue_full = Refusal(
            QueueFull(
                f"{settings.VELO_MAX_QUEUE} inputs wait already, and no more may. "
                f"Try again in {QueueFull.retry_after} s, or add workers."
            )
        )

    def room(self, path: str, method: str = "POST") -> Room:
        """GET / is a page, and POST / asks a model."""
        transforms = path == self._transform or (
            path.startswith(self._of_models) and path.endswith(self._transform)
        )
        if transforms or (method == "POST" and spoken.asks(path)):
            return self._models
        probes = path.startswith(self._of_health) or tei.checks_health(path)
        return self._health if probes or oip.checks_health(path) else self._pages

    def enter(
        self,
        path: str,
        client: str | None,
        length: int,
        compressed: bool = False,
        method: str = "POST",
        has_grant: bool = False,
    ) -> "Visit | Refusal":
        """Let a request in that has a body of `length` bytes, or refuse it. Where the length isn't
        declared, it is 0, and `grow` tells how the body grows. The place is given back with
        `leave`."""
        room = self.room(path, method)
        limit = bodies.limit(path) if room is self._models else bodies.of_others()
        if length > limit.bytes:
            return Refusal(bodies.too_large(limit))
        visit = Visit(room, client, limit, compressed)
        visit.weight = visit.weight_of(length)
        if refusal := room.enter(client, visit.weight):
            return refusal
        full = room is self._models and time.monotonic() < self._queue_full_until
        if full and not has_grant:  # with a grant there may be room still: its share
            room.leave(client, visit.weight)
            return self._queue_full
        return visit

    def grow(self, visit: "Visit", received: int) -> Refusal | None:
        """Of a body whose length wasn't declared, `received` bytes are here. None: go on."""
        if received > visit.limit.bytes:
            return Refusal(bodies.too_large(visit.limit), close=True)
        weight = visit.weight_of(received)
        if refusal := visit.room.grow(visit.weight, weight - visit.weight):
            return refusal
        visit.weight = weight
        return None

    def leave(self, visit: "Visit", found_full: bool = False) -> None:
        """`found_full`: there was no room in the queue for it."""
        room = visit.room
        room.leave(visit.client, visit.weight)
        if found_full:
            self._queue_full_until = time.monotonic() + REMEMBERED

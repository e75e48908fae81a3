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
from http import HTTPStatus

import orjson
from django.conf import settings
from django.urls import reverse

from inference.errors import MEDIA_TYPE, APIError, BodyTooLarge, ClientShare, QueueFull
from inference.threads import Threads

CRAMPED = 2.0  # seconds that a body may take while there is no room for others
REMEMBERED = 0.02  # seconds for which a full queue isn't asked again
# Of other addresses than models'. Few threads: all threads compete for the interpreter.
HEALTH_PLACES, HEALTH_THREADS = 64, 2
PAGE_PLACES, PAGE_THREADS = 256, 4

Headers = list[tuple[str, str]]


class Refusal:
    """An error, made into HTTP beforehand."""

    def __init__(self, error: APIError, close: bool = False) -> None:
        """`close`: the connection can't be used any more."""
        self.status = error.status_code
        self.body = orjson.dumps(error.body)
        self.headers: Headers = [
            ("Content-Type", MEDIA_TYPE),
            ("Content-Length", str(len(self.body))),
            *error.headers.items(),
        ]
        if close:
            self.headers.append(("Connection", "close"))


class Room:
    """The places for requests of one sort. A request has its place until it is answered."""

    def __init__(self, name: str, places: int, share: int, threads: int) -> None:
        """`share`: the places that one client may have, 0 for all."""
        self.threads = Threads(name, threads)
        self._places = places
        self._share = share
        self._inside = 0
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
        self._shared = Refusal(
            ClientShare(
                f"{share} requests of your address for {name} are being answered already, and no "
                f"more may. {again}, with fewer requests at a time."
            )
        )

    def enter(self, client: str | None) -> Refusal | None:
        """None: let in."""
        if self._share and self._of[client] >= self._share:
            return self._shared
        if self._inside >= self._places:
            self._hurry()
            return self._full
        self._inside += 1
        self._of[client] += 1
        return None

    def leave(self, client: str | None) -> None:
        self._inside -= 1
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

    def room(self, path: str) -> Room:
        if path == self._transform or (
            path.startswith(self._of_models) and path.endswith(self._transform)
        ):
            return self._models
        return self._health if path.startswith(self._of_health) else self._pages

    def enter(self, room: Room, client: str | None, length: int) -> Refusal | None:
        """None: let in, with a body of `length` bytes. The place is given back with `leave`."""
        limit: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        if room is self._models:
            limit = settings.VELO_MAX_BODY_BYTES
        if length > limit:
            return Refusal(
                BodyTooLarge(
                    f"The body is larger than {limit} bytes. Send less, or raise "
                    "VELO_MAX_BODY_BYTES on the server."
                )
            )
        refusal = room.enter(client)
        if refusal is None and room is self._models and time.monotonic() < self._queue_full_until:
            room.leave(client)
            return self._queue_full
        return refusal

    def leave(self, room: Room, client: str | None, status: int) -> None:
        room.leave(client)
        if room is self._models and status == HTTPStatus.TOO_MANY_REQUESTS:
            self._queue_full_until = time.monotonic() + REMEMBERED

"""The gate in front of Django: whom a web process lets in, and how long a body may take.

Each request that is let in has a thread, which mostly sleeps. One more than VELO_WEB_THREADS, or
one more of an address than its share, is refused here, before Django and before its body is read.
"""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from http import HTTPStatus
from io import BytesIO
from types import FrameType
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import orjson
from django.conf import settings
from django.http.response import HttpResponseBase
from django.urls import reverse

from inference.errors import (
    MEDIA_TYPE,
    APIError,
    BodyTimeout,
    BodyTooLarge,
    ClientShare,
    QueueFull,
)

SPARE = 64  # threads besides the admitted requests: for refusals, probes, the admin
EMPTYING = 32  # of them at most read the bodies of refused requests
EMPTIED = (
    16 * 1024 * 1024
)  # bytes of such a body; the connection of a client that sends more is closed
CRAMPED = 2.0  # seconds that a body may take while there is no room for others
REMEMBERED = 0.02  # seconds for which a full queue isn't asked again
TICK = 0.25  # seconds between two looks at the bodies that are being read
BUFFER = 16 * 1024  # bytes that the server holds of a request's headers, or of an answer


class Refusal:
    """An error, made into HTTP beforehand."""

    def __init__(self, error: APIError) -> None:
        self.body = orjson.dumps(error.body)
        self.status = f"{error.status_code} {HTTPStatus(error.status_code).phrase}"
        self.headers = [("Content-Type", MEDIA_TYPE), *error.headers.items()]

    def give(self, start_response: StartResponse) -> list[bytes]:
        """The WSGI answer: the body, after `start_response` was called."""
        start_response(self.status, [*self.headers, ("Content-Length", str(len(self.body)))])
        return [self.body]


class Gate:
    """A WSGI application around Django's."""

    def __init__(
        self, application: Callable[[WSGIEnvironment, StartResponse], HttpResponseBase]
    ) -> None:
        self._application = application
        self._path = reverse("transform")
        self._models = reverse("models") + "/"
        self._lock = threading.Lock()
        self._inside = 0
        self._of: Counter[str] = Counter()  # those inside, by their client's address
        self._queue_full_until = self._cramped_until = 0.0
        self._emptying = threading.BoundedSemaphore(EMPTYING)
        # By thread: since when a body is read, and the frame of the server's that waits for it.
        # The thread that takes an entry out (the reader, or the thread that cuts it off) answers.
        self._reading: dict[int, tuple[float, FrameType]] = {}
        again = f"Try again in {QueueFull.retry_after} s"
        self._full = Refusal(
            QueueFull(
                f"{settings.VELO_WEB_THREADS} requests are being answered here already, and no "
                f"more may. {again}, or add workers."
            )
        )
        self._queue_full = Refusal(
            QueueFull(
                f"{settings.VELO_MAX_QUEUE} inputs wait already, and no more may. {again}, or add "
                "workers."
            )
        )
        self._share = Refusal(
            ClientShare(
                f"{settings.VELO_CLIENT_MAX} inputs of your address are being answered already, "
                f"and no more may. {again}, with fewer requests at a time."
            )
        )
        self._slow = Refusal(
            BodyTimeout(
                f"The body didn't arrive within {settings.VELO_READ_TIMEOUT:g} s, or blocked "
                "other requests because it was slow. Send it again, in one piece."
            )
        )
        threading.Thread(target=self._cut_the_slow, name="gate", daemon=True).start()

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes] | HttpResponseBase:
        declared = environ.get("CONTENT_LENGTH") or "0"
        length = int(declared) if declared.isdecimal() else 0
        path: str = environ["PATH_INFO"]
        limited = path == self._path or (
            path.startswith(self._models) and path.endswith(self._path)
        )
        limit = settings.VELO_MAX_BODY_BYTES if limited else settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        if length > limit:
            self._empty(environ, length)
            return Refusal(
                BodyTooLarge(
                    f"The body is larger than {limit} bytes. Send less, or raise "
                    "VELO_MAX_BODY_BYTES on the server."
                )
            ).give(start_response)
        if not limited:
            return self._serve(environ, start_response, length)
        client = _client(environ)
        refusal = self._enter(client)
        if refusal:
            self._empty(environ, length)
            return refusal.give(start_response)
        try:
            answer = self._serve(environ, start_response, length)
        finally:
            self._leave(client)
        if isinstance(answer, HttpResponseBase) and answer.status_code == QueueFull.status_code:
            self._queue_full_until = time.monotonic() + REMEMBERED
        return answer

    def _enter(self, client: str) -> Refusal | None:
        """None: let in."""
        share = settings.VELO_CLIENT_MAX
        with self._lock:
            if share and self._of[client] >= share:
                return self._share
            if self._inside >= settings.VELO_WEB_THREADS:
                self._cramped_until = time.monotonic() + CRAMPED
                return self._full
            if time.monotonic() < self._queue_full_until:
                return self._queue_full
            self._inside += 1
            self._of[client] += 1
            return None

    def _leave(self, client: str) -> None:
        with self._lock:
            self._inside -= 1
            self._of[client] -= 1
            if not self._of[client]:
                del self._of[client]

    def _serve(
        self, environ: WSGIEnvironment, start_response: StartResponse, length: int
    ) -> Iterable[bytes] | HttpResponseBase:
        if length:
            body = self._read(environ, length)
            if len(body) < length:
                return self._slow.give(start_response)
            environ["wsgi.input"] = BytesIO(body)
        return self._application(environ, start_response)

    def _read(self, environ: WSGIEnvironment, length: int) -> bytes:
        """The body; fewer bytes if the client has left or was cut off."""
        me, server = threading.get_ident(), sys._getframe(1)
        self._reading[me] = (time.monotonic(), server)
        body: bytes = environ["wsgi.input"].read(length)
        mine = self._reading.pop(me, None) is not None
        return body if mine else b""

    def _empty(self, environ: WSGIEnvironment, length: int) -> None:
        """Take in what a client has sent, so that it reads its answer, and not of a reset."""
        if 0 < length <= EMPTIED and self._emptying.acquire(blocking=False):
            try:
                self._read(environ, length)
            finally:
                self._emptying.release()

    def _cut_the_slow(self) -> None:
        while True:
            time.sleep(TICK)
            now = time.monotonic()
            patience: float = settings.VELO_READ_TIMEOUT
            if now < self._cramped_until:
                patience = min(patience, CRAMPED)
            for reader, (since, server) in self._reading.copy().items():
                if now - since > patience and self._reading.pop(reader, None) is not None:
                    self._cut(server)

    def _cut(self, frame: FrameType | None) -> None:
        """Answer for a thread that waits for a body, and end the connection.

        granian has no time limit for bodies, and its `read` can't be interrupted. It ends the
        connection, and with it the read, when an answer turns out shorter than it was declared,
        and drops what it holds of it. It only looks for more of an answer while its buffer has
        room; blanks, which JSON allows, fill the buffer, and so the answer is written first.
        What takes an answer from another thread stands in its frame as `proto`, and nowhere else.
        """
        while frame and "proto" not in frame.f_locals:
            frame = frame.f_back
        if frame:
            body = self._slow.body.ljust(BUFFER)
            length = ("Content-Length", str(len(body) + 1))
            headers = [*self._slow.headers, length, ("Connection", "close")]
            frame.f_locals["proto"].response_iter(BodyTimeout.status_code, headers, iter([body]))


def _client(environ: WSGIEnvironment) -> str:
    """Its address: the proxy's word for it, if the proxy is to be believed."""
    if settings.TRUST_PROXY:
        told: str = environ.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip()
        if told:
            return told
    address: Any = environ.get("REMOTE_ADDR", "")
    return str(address)

"""The door: a request from the web server to Django, and the answer back.

The web server speaks RSGI, not WSGI, for four reasons: it hands over the names of the headers as
they came, a body can be waited for with a time limit, a client that doesn't read its answer holds
no thread, and it tells when a client has left.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from django.conf import settings
from django.http.response import HttpResponseBase
from granian._granian import RSGIHTTPProtocol as HTTPProtocol
from granian._granian import RSGIProtocolClosed as ProtocolClosed
from granian.rsgi import Scope

from inference import callers, keys, presence, recording, sockets
from inference.callers import Caller
from inference.environ import environ_of
from inference.errors import APIError, BodyTimeout, ServerError
from inference.gate import Answer, Gate, Headers, Refusal, Room, Visit
from inference.middleware import ENVIRON
from inference.presence import Client

log = logging.getLogger(__name__)

# Seconds after which a client is watched. Most are answered before, and to watch one takes the
# event loop some 40 microseconds.
WATCHED_AFTER = 0.1
EMPTYING = 32  # refused requests whose bodies are taken in at a time
EMPTIED = 16 * 1024 * 1024  # bytes of such a body; above it the client finds a closed connection

Django = Callable[[WSGIEnvironment, StartResponse], HttpResponseBase]


class Door:
    """An RSGI application around Django's WSGI application."""

    def __init__(self, django: Django) -> None:
        self._django = django
        self._gate = Gate()
        self._emptying = 0
        self._slow = Refusal(
            BodyTimeout(
                f"The body didn't arrive within {settings.VELO_READ_TIMEOUT:g} s, or blocked "
                "other requests because it was slow. Send it again, in one piece."
            ),
            close=True,
        )
        self._failed = Refusal(ServerError())

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        loop.call_soon(sockets.limit_writes, loop)

    async def __rsgi__(self, scope: Scope, proto: HTTPProtocol) -> None:
        try:
            environ = environ_of(scope)
        except APIError as error:
            _refuse(proto, Refusal(error, close=True), scope, Caller())
            return
        length, path = int(environ["CONTENT_LENGTH"] or 0), environ["PATH_INFO"]
        chunked = "HTTP_TRANSFER_ENCODING" in environ
        compressed = "HTTP_CONTENT_ENCODING" in environ
        method = environ["REQUEST_METHOD"]
        visit: Visit | Refusal
        request_id = callers.request_id(environ)
        try:
            caller = keys.caller(environ, request_id)
        except APIError as error:
            caller, visit = Caller(request_id), Refusal(error)
        else:
            client = caller.grant.client if caller.grant else callers.address(environ)
            has_grant = caller.grant is not None
            visit = self._gate.enter(path, client, length, compressed, method, has_grant)
        if isinstance(visit, Refusal):
            if chunked or 0 < length <= EMPTIED:
                await self._empty(self._gate.room(path, method), _Parts(proto))
            _refuse(proto, visit, scope, caller)
            return
        environ[ENVIRON] = caller
        try:
            if body := await self._body(visit, proto, length, chunked):
                if isinstance(body, Refusal):
                    _refuse(proto, body, scope, caller)
                    return
                environ["CONTENT_LENGTH"] = str(len(body))
                environ["wsgi.input"] = BytesIO(body)
            connected = Client()
            watch = _Watch(self._loop, proto, connected)
            try:
                status, headers, content = await self._answer(visit.room, environ, connected)
            finally:
                watch.end()
        finally:
            self._gate.leave(visit, caller.found_full)
        proto.response_bytes(status, headers, content)

    def _answer(
        self, room: Room, environ: WSGIEnvironment, client: Client
    ) -> asyncio.Future[Answer]:
        """What Django says, from a thread of the room's."""
        answer: asyncio.Future[Answer] = self._loop.create_future()

        def ask() -> None:
            try:
                with presence.of(client):
                    found = self._ask(environ)
            except Exception:
                words = (environ["REQUEST_METHOD"], environ["PATH_INFO"])
                log.exception("%s %s", *words, extra={"request": environ[ENVIRON].request_id})
                found = _of(
                    self._failed,
                    environ["REQUEST_METHOD"],
                    environ["PATH_INFO"],
                    environ[ENVIRON],
                )
            self._loop.call_soon_threadsafe(answer.set_result, found)

        room.threads.run(ask)
        return answer

    def _ask(self, environ: WSGIEnvironment) -> Answer:
        started: list[tuple[str, Headers]] = []

        def start_response(status: str, headers: Headers, exc_info: Any = None) -> Any:
            started.append((status, headers))

        response = self._django(environ, start_response)
        try:
            content = b"".join(response)
        finally:
            response.close()
        [(status, headers)] = started
        return int(status[:3]), headers, content

    async def _body(
        self, visit: Visit, proto: HTTPProtocol, length: int, chunked: bool
    ) -> bytes | Refusal:
        """A refusal where it came too slowly, is too large, or the client has left."""
        if not length and not chunked:
            return b""
        try:
            async with visit.room.reading():
                if not chunked:
                    return await proto()
                parts = _Parts(proto)
                body = await self._chunks(visit, parts)
        except (TimeoutError, ProtocolClosed):
            return self._slow
        if isinstance(body, Refusal):
            await self._empty(visit.room, parts)
        return body

    async def _chunks(self, visit: Visit, parts: "_Parts") -> bytes | Refusal:
        """A body whose length isn't declared."""
        body = bytearray()
        async for part in parts:
            body += part
            if refusal := self._gate.grow(visit, len(body)):
                return refusal
        return bytes(body)

    async def _empty(self, room: Room, parts: "_Parts") -> None:
        """Take in what a client has sent, so that it reads its answer, and not of a reset."""
        if self._emptying >= EMPTYING:
            return
        self._emptying += 1
        left = EMPTIED
        try:
            async with room.reading():
                async for part in parts:
                    left -= len(part)
                    if left < 0:
                        break
        except TimeoutError:
            pass  # it is refused in any case
        finally:
            self._emptying -= 1


def _of(refusal: Refusal, method: str, path: str, caller: Caller) -> Answer:
    """In the form that the path speaks, with the headers that each answer to this caller has."""
    status, headers, content = refusal.said(path)
    recording.failed(caller, refusal.failure)
    recording.answered(caller, method, path, status)
    return status, [*headers, *caller.headers.items()], content


def _refuse(proto: HTTPProtocol, refusal: Refusal, scope: Scope, caller: Caller) -> None:
    proto.response_bytes(*_of(refusal, scope.method, scope.path, caller))


class _Parts:
    """Of a body, as they come. A reader that stops halfway may go on, which the web server's own
    parts don't allow."""

    def __init__(self, proto: HTTPProtocol) -> None:
        self._parts = aiter(proto)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        part: bytes = await anext(self._parts)
        if not part:
            raise StopAsyncIteration
        return part


class _Watch:
    """Over a client that waits for its answer."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, proto: HTTPProtocol, client: Client
    ) -> None:
        self._proto = proto
        self._client = client
        self._watching: asyncio.Future[None] | None = None
        self._timer = loop.call_later(WATCHED_AFTER, self._begin)

    def end(self) -> None:
        self._timer.cancel()
        if self._watching:
            self._watching.cancel()

    def _begin(self) -> None:
        self._watching = asyncio.ensure_future(self._proto.client_disconnect())
        self._watching.add_done_callback(self._ended)

    def _ended(self, watching: asyncio.Future[None]) -> None:
        if not watching.cancelled():
            self._client.leave()

"""The door: a request from the web server to Django, and the answer back.

The web server speaks RSGI, not WSGI, for three reasons: it hands over the names of the headers as
they came, a body can be waited for with a time limit, and a client that doesn't read its answer
holds no thread.
"""

import asyncio
import logging
from collections.abc import Callable
from io import BytesIO
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from django.conf import settings
from django.http.response import HttpResponseBase
from granian._granian import RSGIHTTPProtocol as HTTPProtocol
from granian._granian import RSGIProtocolClosed as ProtocolClosed
from granian.rsgi import Scope

from inference import callers, sockets
from inference.environ import environ_of
from inference.errors import APIError, BodyTimeout, ServerError
from inference.gate import Answer, Gate, Headers, Refusal, Room

log = logging.getLogger(__name__)

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
            proto.response_bytes(*Refusal(error, close=True).said(scope.path))
            return
        length, path = int(environ.get("CONTENT_LENGTH") or 0), environ["PATH_INFO"]
        compressed = "HTTP_CONTENT_ENCODING" in environ
        visit = self._gate.enter(path, callers.address(environ), length, compressed)
        if isinstance(visit, Refusal):
            await self._empty(self._gate.room(path), proto, length)
            proto.response_bytes(*visit.said(path))
            return
        status = 0
        try:
            if length:
                body = await _body(visit.room, proto)
                if body is None:
                    proto.response_bytes(*self._slow.said(path))
                    return
                environ["wsgi.input"] = BytesIO(body)
            status, headers, content = await self._answer(visit.room, environ)
        finally:
            self._gate.leave(visit, status)
        proto.response_bytes(status, headers, content)

    def _answer(self, room: Room, environ: WSGIEnvironment) -> asyncio.Future[Answer]:
        """What Django says, from a thread of the room's."""
        answer: asyncio.Future[Answer] = self._loop.create_future()

        def ask() -> None:
            try:
                found = self._ask(environ)
            except Exception:
                log.exception("%s %s", environ["REQUEST_METHOD"], environ["PATH_INFO"])
                found = self._failed.said(environ["PATH_INFO"])
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

    async def _empty(self, room: Room, proto: HTTPProtocol, length: int) -> None:
        """Take in what a client has sent, so that it reads its answer, and not of a reset."""
        if not 0 < length <= EMPTIED or self._emptying >= EMPTYING:
            return
        self._emptying += 1
        try:
            async with room.reading():
                async for part in proto:
                    if not part:
                        break
        except TimeoutError:
            pass  # it is refused in any case
        finally:
            self._emptying -= 1


async def _body(room: Room, proto: HTTPProtocol) -> bytes | None:
    """None: it came too slowly, or the client has left."""
    try:
        async with room.reading():
            return await proto()
    except (TimeoutError, ProtocolClosed):
        return None

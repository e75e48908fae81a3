"""A body has its time to arrive, and less of it while the room is full; then its place is free."""

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from django.http import HttpResponse
from granian._granian import RSGIProtocolClosed as ProtocolClosed

from inference import gate
from inference.door import EMPTIED, EMPTYING, Door
from inference.gate import CRAMPED, Gate, Refusal, Visit
from tests.scopes import scope

PATIENCE = 60.0


class Clock:
    """The time of the gate and of its event loop. It goes on when a test says so, and at once."""

    def __init__(self) -> None:
        self.now = 1000.0

    async def pass_by(self, seconds: float) -> None:
        for due in (0, seconds):  # first what has been begun
            self.now += due
            for _ in range(5):  # turns of the loop, in which everything is done that is due
                await asyncio.sleep(0)

    def run(self, test: Coroutine[Any, Any, None]) -> None:
        def loop() -> asyncio.AbstractEventLoop:
            made: Any = asyncio.new_event_loop()
            made.time = lambda: self.now
            return made

        def run() -> None:
            with asyncio.Runner(loop_factory=loop) as runner:
                runner.run(test)

        with ThreadPoolExecutor() as aside:  # this thread may have Playwright's event loop
            aside.submit(run).result()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(gate, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


@pytest.fixture(autouse=True)
def one_place(settings: Any) -> None:
    settings.VELO_WEB_THREADS, settings.VELO_CLIENT_MAX = 1, 0
    settings.VELO_READ_TIMEOUT, settings.VELO_MAX_BODY_BYTES = PATIENCE, 10


@pytest.mark.parametrize(
    ("begins", "full", "patience", "ends"),
    [
        (0, [], PATIENCE, PATIENCE),
        (0, [1], PATIENCE, CRAMPED),
        (0, [1, 1.5], PATIENCE, CRAMPED),
        (0, [12], PATIENCE, 12),
        (1, [0], PATIENCE, 1 + CRAMPED),
        (3, [0, 1.5], PATIENCE, 3 + CRAMPED),
        (CRAMPED, [0], PATIENCE, CRAMPED + PATIENCE),
        (0.5, [0], 1, 1.5),
        (0, [0.5], 1, 1),
    ],
    ids=[
        "there is room",
        "the room becomes full",
        "the room stays full",
        "the room becomes full when it has had that time already",
        "the room was full a moment ago",
        "the room was full again a moment ago",
        "the room was full long ago",
        "the room was full, but the limit is shorter",
        "the room becomes full, but the limit is shorter",
    ],
)
def test_a_body_has_its_time_and_less_while_the_room_is_full(
    begins: float,
    full: Collection[float],
    patience: float,
    ends: float,
    clock: Clock,
    settings: Any,
) -> None:
    """All in seconds: when a body begins, when a request finds the room full, and when the body is
    given up, which never arrives."""
    settings.VELO_READ_TIMEOUT = patience
    guard = Gate()
    room = guard.room("/transform")
    assert isinstance(guard.enter("/transform", "192.0.2.1", 2), Visit)

    async def body() -> None:
        with suppress(TimeoutError):
            async with room.reading():
                await asyncio.Event().wait()

    async def ended() -> float:
        task = None
        for moment in (quarter / 4 for quarter in range(4 * 100)):
            if moment in full:
                assert isinstance(guard.enter("/transform", "192.0.2.2", 2), Refusal)
            if moment == begins:
                task = asyncio.create_task(body())
            await clock.pass_by(0)
            if task and task.done():
                return moment
            await clock.pass_by(0.25)
        return float("inf")

    async def test() -> None:
        assert await ended() == ends

    clock.run(test())


def test_the_room_may_become_full_while_a_body_is_being_given_up(clock: Clock) -> None:
    guard = Gate()
    room = guard.room("/transform")
    assert isinstance(guard.enter("/transform", "192.0.2.1", 2), Visit)

    async def test() -> None:
        given_up, go_on = asyncio.Event(), asyncio.Event()

        async def body() -> None:
            async with room.reading():
                try:
                    await asyncio.Event().wait()
                finally:
                    given_up.set()
                    await go_on.wait()

        task = asyncio.create_task(body())
        await clock.pass_by(PATIENCE)
        assert given_up.is_set()
        assert isinstance(guard.enter("/transform", "192.0.2.2", 2), Refusal)
        go_on.set()
        with pytest.raises(TimeoutError):
            await task

    clock.run(test())


class Client:
    """A connection whose client sends nothing of its body. A fake: Granian's own needs a server."""

    def __init__(self, door: Door, length: int, *headers: tuple[str, str]) -> None:
        self.answer: Any = None
        asking = scope(("content-length", str(length)), *headers)
        connection: Any = self
        self._task = asyncio.create_task(door.__rsgi__(asking, connection))

    async def __call__(self) -> bytes:
        await asyncio.Event().wait()
        return b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield await self()

    async def answered(self) -> None:
        """Waits for a thread too."""
        await asyncio.wait([self._task])

    def response_bytes(self, status: int, headers: Any, body: bytes) -> None:
        assert self.answer is None
        self.answer = SimpleNamespace(status=status, headers=dict(headers), body=body)

    @property
    def status(self) -> int | None:
        return self.answer.status if self.answer else None


class Gone(Client):
    """Its client leaves before the body is there."""

    async def __call__(self) -> bytes:
        raise ProtocolClosed


def django(environ: Any, start_response: Any) -> HttpResponse:
    start_response("200 OK", [])
    return HttpResponse(b"fine")


def opened() -> Door:
    made = Door(django)
    made._loop = asyncio.get_running_loop()
    return made


def test_a_slow_body_is_408_and_ends_the_connection(clock: Clock) -> None:
    """What is left of the body would pass for the next request."""

    async def test() -> None:
        slow = Client(opened(), 10)
        await clock.pass_by(PATIENCE - 0.25)
        assert slow.status is None
        await clock.pass_by(0.25)
        assert slow.status == 408
        assert slow.answer.headers["Connection"] == "close"

    clock.run(test())


def test_a_request_that_can_be_read_in_two_ways_ends_the_connection(clock: Clock) -> None:
    async def test() -> None:
        unclear = Client(opened(), 10, ("host", "evil.example"))
        await clock.pass_by(0)
        assert unclear.status == 400
        assert unclear.answer.headers["Connection"] == "close"

    clock.run(test())


@pytest.mark.parametrize("kind", [Client, Gone])
def test_the_place_of_a_body_that_did_not_come_is_free(kind: type[Client], clock: Clock) -> None:
    async def test() -> None:
        door = opened()
        for _ in range(3):
            client = kind(door, 10)
            await clock.pass_by(PATIENCE)
            assert client.status == 408
        whole = Client(door, 0)
        await whole.answered()
        assert whole.status == 200

    clock.run(test())


def test_only_so_many_refused_bodies_are_taken_in_at_a_time(clock: Clock) -> None:
    """Each holds a connection; the rest of the clients get their answer without that courtesy."""

    async def test() -> None:
        door = opened()
        for _ in range(2):
            refused = [Client(door, 11) for _ in range(EMPTYING)]
            await clock.pass_by(0)
            assert {client.status for client in refused} == {None}
            others = [Client(door, 11) for _ in range(3)]
            await clock.pass_by(0)
            assert {client.status for client in others} == {413}
            await clock.pass_by(PATIENCE)
            assert {client.status for client in refused} == {413}
            assert not any("Connection" in client.answer.headers for client in refused)

    clock.run(test())


def test_a_refused_body_that_is_too_large_is_not_taken_in(clock: Clock) -> None:
    async def test() -> None:
        door = opened()
        clients = [Client(door, length) for length in (EMPTIED, EMPTIED + 1)]
        await clock.pass_by(0)
        assert [client.status for client in clients] == [None, 413]

    clock.run(test())

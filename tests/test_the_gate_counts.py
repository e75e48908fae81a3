"""The gate lets in as many requests as there are places and shares for, and counts them right."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

import orjson
import pytest

from inference import gate
from inference.door import Door
from inference.gate import Gate, Refusal, Visit
from tests.scopes import HERE, scope

THERE = "192.0.2.2"
INSIDE = "inside"


class Models:
    """The room for models behind a gate."""

    def __init__(self) -> None:
        self._gate = Gate()
        self._visits: dict[str, list[Visit]] = {}

    def enter(self, client: str = HERE, length: int = 2, compressed: bool = False) -> str:
        """INSIDE, or the code of a refusal."""
        visit = self._gate.enter("/transform", client, length, compressed)
        if isinstance(visit, Refusal):
            return str(orjson.loads(visit.said("/transform")[2])["code"])
        self._visits.setdefault(client, []).append(visit)
        return INSIDE

    def leave(self, client: str = HERE, found_full: bool = False) -> None:
        visits = self._visits[client]
        self._gate.leave(visits.pop(), found_full)
        if not visits:
            del self._visits[client]


@pytest.fixture
def models(settings: Any) -> Models:
    settings.VELO_WEB_THREADS, settings.VELO_CLIENT_MAX = 5, 3
    return Models()


def test_no_more_are_let_in_than_there_are_places(settings: Any) -> None:
    settings.VELO_WEB_THREADS, settings.VELO_CLIENT_MAX = 5, 0
    models = Models()
    assert [models.enter() for _ in range(5)] == [INSIDE] * 5
    assert models.enter() == models.enter(THERE) == "queue_full"
    models.leave()
    assert models.enter(THERE) == INSIDE
    assert models.enter() == "queue_full"


def test_no_address_has_more_inside_than_its_share(models: Models) -> None:
    assert [models.enter() for _ in range(4)] == [INSIDE] * 3 + ["client_share"]
    assert [models.enter(THERE) for _ in range(3)] == [INSIDE] * 2 + ["queue_full"]


def test_a_place_is_free_again_when_its_request_has_been_answered(models: Models) -> None:
    for _ in range(7):
        assert models.enter() == INSIDE
        models.leave()
    assert [models.enter() for _ in range(4)] == [INSIDE] * 3 + ["client_share"]


def test_a_full_queue_is_remembered_for_a_moment(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without asking Redis for each of a flood of requests."""
    monkeypatch.setattr(gate, "REMEMBERED", 60)
    assert models.enter() == INSIDE
    models.leave(found_full=True)
    assert [models.enter(), models.enter(THERE)] == ["queue_full"] * 2


def test_a_full_queue_is_asked_again_after_that(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "REMEMBERED", 0)
    for _ in range(4):
        assert models.enter() == INSIDE
        models.leave(found_full=True)


class Address(str):
    """Of a client. A weak reference tells whether anything still keeps it."""


def test_clients_that_have_left_are_forgotten(models: Models) -> None:
    """Or each address that ever came would take memory for good."""
    kept: WeakSet[Address] = WeakSet()
    for number in range(1000):
        client = Address(f"2001:db8:0:{number:x}::")
        kept.add(client)
        assert [models.enter(client) for _ in range(4)] == [INSIDE] * 3 + ["client_share"]
        for _ in range(3):
            models.leave(client)
    del client
    assert not kept


def test_requests_that_a_full_queue_refuses_take_no_places(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "REMEMBERED", 60)
    now = time.monotonic()
    monkeypatch.setattr(gate, "time", SimpleNamespace(monotonic=lambda: now))
    assert models.enter() == INSIDE
    models.leave(found_full=True)
    assert [models.enter(client) for client in (HERE, THERE) * 5] == ["queue_full"] * 10
    now += 61
    assert [models.enter() for _ in range(4)] == [INSIDE] * 3 + ["client_share"]
    assert [models.enter(THERE) for _ in range(3)] == [INSIDE] * 2 + ["queue_full"]


@pytest.mark.parametrize(
    ("path", "like"),
    [
        ("/models/m/transform", "/transform"),
        ("/models/m/versions/1/transform", "/transform"),
        ("/models", "/stat"),
        ("/models/", "/stat"),
        ("/models/m", "/transform"),
        ("/models/m/other", "/stat"),
        ("/models/m/transform/other", "/stat"),
        ("/transform/", "/stat"),
        ("/other/transform", "/stat"),
        ("/health/ready", "/health/live"),
        ("/health", "/health/live"),
        ("/models/m/health", "/health/live"),
        ("/healthy/live", "/stat"),
        ("/admin/", "/stat"),
        ("/admin/models/m/transform", "/stat"),
        ("/", "/transform"),
        ("", "/stat"),
    ],
)
def test_each_address_has_its_room(path: str, like: str) -> None:
    """Only what asks a model takes a model's place."""
    guard = Gate()
    assert guard.room(path) is guard.room(like)


def test_the_root_is_a_page_too() -> None:
    guard = Gate()
    assert guard.room("/", "GET") is guard.room("/stat", "GET") is not guard.room("/", "POST")
    assert len({guard.room(one) for one in ("/transform", "/health/live", "/stat")}) == 3


def test_an_error_behind_the_gate_is_500_and_frees_the_place(settings: Any) -> None:
    settings.VELO_WEB_THREADS, settings.VELO_CLIENT_MAX = 1, 1
    answers: list[tuple[int, Any, bytes]] = []
    proto: Any = SimpleNamespace(response_bytes=lambda *answer: answers.append(answer))

    def broken(environ: Any, start_response: Any) -> Any:
        raise ValueError("broken")

    async def ask() -> None:
        door = Door(broken)
        door._loop = asyncio.get_running_loop()
        for _ in range(3):
            await door.__rsgi__(scope(), proto)

    with ThreadPoolExecutor() as aside:  # this thread may have Playwright's event loop
        aside.submit(asyncio.run, ask()).result()
    assert [status for status, _, _ in answers] == [500] * 3
    assert all(b'"code":"server_error"' in body for _, _, body in answers)


def test_bodies_have_only_so_many_bytes_together(
    models: Models, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "BODIES_BYTES", 3000)
    settings.VELO_MAX_BODY_BYTES = 5000
    assert models.enter(length=5000) == INSIDE  # it is alone
    assert models.enter(length=1) == "queue_full"
    models.leave()
    assert models.enter(length=2000) == INSIDE
    assert models.enter(length=1001) == "queue_full"
    assert models.enter(length=1, compressed=True) == "queue_full"  # it may become 1032
    assert models.enter(length=1000) == INSIDE
    models.leave()
    models.leave()
    assert models.enter(length=5000, compressed=True) == INSIDE
    models.leave()
    assert models.enter(length=1) == INSIDE

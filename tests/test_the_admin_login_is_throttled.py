"""Who guesses a password too often has to wait, and nobody else has to."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import AnonymousUser
from django.http import HttpResponse
from django.test import RequestFactory
from playwright.sync_api import Browser, expect

from tests.scopes import HERE
from tests.stack import Answer, Stack, stack
from tests.test_the_admin_shows_it import watched
from velo_site import login

LIMIT, PAUSE = 3, 200
addresses = (f"127.0.0.{number}" for number in count(2))


@pytest.fixture(scope="module")
def velo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    knobs = {"VELO_LOGIN_ATTEMPTS": LIMIT, "VELO_LOGIN_PAUSE": PAUSE}
    with stack(tmp_path_factory.mktemp("login"), workers=0, **knobs) as running:
        yield running


@pytest.fixture
def here() -> str:
    """An address of this machine's that no other test comes from."""
    return next(addresses)


def log_in(velo: Stack, here: str, password: str, name: str = "admin", **headers: str) -> Answer:
    """As a browser at the address `here` does it."""
    http = HTTPConnection("127.0.0.1", velo.port, timeout=60, source_address=(here, 0))
    with closing(http):
        http.request("GET", "/admin/login/")
        form = http.getresponse()
        token = re.search("csrftoken=([^;]+)", form.getheader("Set-Cookie") or "")
        form.read()
        assert token
        fields = {"csrfmiddlewaretoken": token[1], "username": name, "password": password}
        http.request(
            "POST",
            "/admin/login/",
            urlencode(fields),
            {
                "Content-Type": "application/x-www-form-urlencoded",
                "Cookie": f"csrftoken={token[1]}",
                **{key.replace("_", "-"): value for key, value in headers.items()},
            },
        )
        answer = http.getresponse()
        names = {key.lower(): value for key, value in answer.getheaders()}
        return Answer(answer.status, names, answer.read())


def guess(velo: Stack, here: str, times: int = LIMIT, name: str = "admin") -> list[int]:
    return [log_in(velo, here, f"guess {time}", name).status for time in range(times)]


def test_a_person_reads_when_to_try_again(browser: Browser, velo: Stack) -> None:
    with watched(browser, velo.base, expected={429}) as page:
        page.goto("/admin/")
        for _ in range(LIMIT):
            page.get_by_label("Username").fill("<b>somebody</b>")
            page.get_by_label("Password").fill("a guess")
            page.get_by_role("button", name="Log in").click()
        expect(page.locator("h1").last).to_have_text("Too many wrong passwords")
        expect(page.locator("#content")).to_contain_text(
            re.compile(
                r"Log-in as <b>somebody</b> from your address is paused for\s+3 min \d+ s: "
                r"try again at \d\d:\d\d:\d\d UTC"
            )
        )
        page.get_by_role("link", name="Back to the log-in").click()
        expect(page.get_by_role("button", name="Log in")).to_be_visible()


def test_the_right_password_too_has_to_wait_as_long_as_was_said(velo: Stack, here: str) -> None:
    assert guess(velo, here) == [200, 200, 429]
    first = log_in(velo, here, velo.password())
    second = log_in(velo, here, velo.password())
    assert (first.status, second.status) == (429, 429)
    assert PAUSE - 60 < int(second.headers["retry-after"]) <= int(first.headers["retry-after"])
    with closing(sqlite3.connect(velo.folder / "velo.sqlite3")) as database, database:
        database.execute(
            "UPDATE axes_accessattempt SET attempt_time = datetime(attempt_time, ?)"
            " WHERE ip_address = ?",
            (f"-{second.headers['retry-after']} seconds", here),
        )  # which is what waiting does
    assert log_in(velo, here, velo.password()).status == 302


def test_nobody_can_keep_others_out(velo: Stack, here: str) -> None:
    attacker = next(addresses)
    assert guess(velo, attacker, LIMIT + 1) == [200, 200, 429, 429]
    assert log_in(velo, here, velo.password()).status == 302
    assert guess(velo, attacker, 1, name="another") == [200]


def test_a_success_forgives_the_mistakes_before_it(velo: Stack, here: str) -> None:
    for _ in range(2):
        assert guess(velo, here, LIMIT - 1) == [200, 200]
        assert log_in(velo, here, velo.password()).status == 302


def test_it_does_not_help_to_invent_an_address_or_a_browser(velo: Stack, here: str) -> None:
    statuses = [
        log_in(velo, here, "a guess", X_Forwarded_For=f"198.51.100.{n}", User_Agent=str(n)).status
        for n in range(LIMIT)
    ]
    assert statuses == [200, 200, 429]


def test_behind_a_trusted_proxy_the_address_it_saw_counts(tmp_path: Path, here: str) -> None:
    knobs = {"VELO_LOGIN_ATTEMPTS": LIMIT, "DJANGO_TRUST_PROXY": 1}
    with stack(tmp_path, workers=0, **knobs) as velo:
        statuses = [
            log_in(velo, here, "a guess", X_Forwarded_For=f"198.51.100.{n}, 203.0.113.7").status
            for n in range(LIMIT)
        ]
        assert statuses == [200, 200, 429]
        right = velo.password()
        assert log_in(velo, here, right, X_Forwarded_For="203.0.113.7, 203.0.113.8").status == 302
        assert guess(velo, here) == [200, 200, 429]  # not through the proxy


def test_the_api_knows_of_no_pause(velo: Stack, here: str) -> None:
    guess(velo, "127.0.0.1", LIMIT, name="a third")
    assert velo.get("/health/live").status == 200
    assert velo.get("/stat").status == 200
    assert velo.transform("text").json["code"] == "no_worker"


@pytest.mark.parametrize(
    ("given", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::"),
        ("::1", "::"),
    ],
)
def test_who_has_a_whole_network_is_one(given: str, counted: str) -> None:
    assert login.address(RequestFactory().get("/admin/login/", REMOTE_ADDR=given)) == counted


NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def paused(db: None, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Makes the page that a caller at HERE gets for the name `admin`, which is locked out."""
    settings.VELO_LOGIN_PAUSE = PAUSE
    monkeypatch.setattr(login, "timezone", SimpleNamespace(now=lambda: NOW))

    def page(forwarded: str = "") -> Any:
        request = RequestFactory().get(
            "/admin/login/", REMOTE_ADDR=HERE, HTTP_X_FORWARDED_FOR=forwarded
        )
        request.user = AnonymousUser()
        return login.paused(request, HttpResponse(), {"username": "admin"})

    return page


def wrong(ago: float, name: str = "admin", address: str = HERE, browser: str = "a") -> None:
    """A wrong password, so many seconds ago."""
    made = AccessAttempt.objects.create(
        username=name, ip_address=address, user_agent=browser, failures_since_start=LIMIT
    )
    when = NOW - timedelta(seconds=ago)
    AccessAttempt.objects.filter(pk=made.pk).update(attempt_time=when)


@pytest.mark.parametrize(
    ("ago", "seconds", "wait", "until"),
    [
        (0, 200, "3 min 20 s", "12:03:20"),
        (139, 61, "1 min 1 s", "12:01:01"),
        (140, 60, "1 min 0 s", "12:01:00"),
        (141, 59, "59 s", "12:00:59"),
        (198.75, 2, "2 s", "12:00:02"),
        (199.5, 1, "1 s", "12:00:01"),
        (200, 1, "1 s", "12:00:01"),
        (300, 1, "1 s", "12:00:01"),
    ],
)
def test_a_pause_begins_with_the_last_wrong_password(
    ago: float, seconds: int, wait: str, until: str, paused: Callable[..., Any]
) -> None:
    """A part of a second counts as a whole, or it would end after it was said to."""
    wrong(ago, browser="b")
    wrong(ago + 50, browser="c")
    page = paused()
    assert (page.status_code, page["Retry-After"]) == (429, str(seconds))
    assert "no-store" in page["Cache-Control"]
    text = " ".join(re.sub("<[^>]+>", " ", page.content.decode()).split())
    assert f"from your address is paused for {wait} : try again at {until} UTC." in text


def test_the_pause_that_is_said_is_neither_another_names_nor_another_addresss(
    paused: Callable[..., Any], settings: Any
) -> None:
    settings.TRUST_PROXY = True
    mine = "198.51.100.7"
    wrong(50, address=mine)
    wrong(10, address=HERE)
    wrong(20, address="198.51.100.8")
    wrong(30, address=mine, name="another")
    assert paused(f"198.51.100.8, {mine}")["Retry-After"] == "150"


def test_a_pause_without_a_wrong_password_is_a_whole_one(paused: Callable[..., Any]) -> None:
    """The attempts may have been reset meanwhile, from the shell."""
    assert paused()["Retry-After"] == str(PAUSE)

"""What a person sees in the admin, and may do there, in a real browser."""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response, expect

from tests.stack import Stack, stack
from tests.versions import shell
from tests.waiting import eventually

VERSION = re.compile(r"all-MiniLM-L6-v2@[0-9a-f]{12}")
MILLISECONDS = re.compile(r"\d+\.\d ms")
WINDOWS = ("change", "worker", "latencysample")  # nobody writes there
FILLED = ("servedmodel", "modelversion", "queue", *WINDOWS)  # where each Velo has rows
MODELS = (*FILLED, "intervention", "client", "key", "usage", "requestrecord")
QUEUES = "/admin/workers/queue/"
# Nobody collects its answer, so it is kept for VELO_RESULT_TTL.
ENQUEUE = """
from workers.broker.enqueue import NewJob, enqueue
assert enqueue({queue!r}, [NewJob({queue!r}, {text!r}, "infer: " + {text!r}, 30)]).admitted
"""


@contextmanager
def watched(browser: Browser, base: str, expected: Collection[int] = ()) -> Iterator[Page]:
    """A page of its own that may not complain: no error in its scripts or its console, no request
    that fails or leaves for another host, and no status from 400 on but the `expected` ones."""
    complaints: list[str] = []
    context = browser.new_context(base_url=base, viewport={"width": 1400, "height": 900})
    page = context.new_page()

    def said(message: ConsoleMessage) -> None:
        known = any(f"a status of {status} " in message.text for status in expected)
        if message.type == "error" and not known:
            complaints.append(f"{page.url}: console: {message.text} {message.location['url']}")

    def asked(request: Request) -> None:
        if urlsplit(request.url).hostname not in (None, "localhost", "127.0.0.1"):
            complaints.append(f"{page.url}: asks another host: {request.url}")

    def lost(request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # which a click on the next link does, too
            complaints.append(f"{page.url}: {request.failure} {request.url}")

    def answered(response: Response) -> None:
        if response.status >= 400 and response.status not in expected:
            complaints.append(f"{page.url}: {response.status} {response.url}")

    page.on("console", said)
    page.on("pageerror", lambda error: complaints.append(f"{page.url}: script: {error}"))
    page.on("request", asked)
    page.on("requestfailed", lost)
    page.on("response", answered)
    try:
        yield page
        page.wait_for_load_state("networkidle")
        assert not complaints
    finally:
        context.close()


def log_in(page: Page, velo: Stack) -> None:
    page.goto("/admin/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(velo.password())
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#user-tools")).to_contain_text("admin")


def rows(page: Page) -> list[dict[str, str]]:
    """Of the list on the page, each by the columns' headings in lower case."""
    table = page.locator("#result_list, #results_list").first
    if not table.count():
        return []
    heads = [
        text.strip().lower()
        for text in table.locator("thead th").locator(".text").all_text_contents()
    ]
    return [
        dict(
            zip(heads, map(str.strip, row.locator("> th, > td").all_text_contents()), strict=False)
        )
        for row in table.locator("tbody tr").all()
    ]


@pytest.fixture
def page(browser: Browser, velo: Stack) -> Iterator[Page]:
    """Logged in as admin, at the admin's index."""
    with watched(browser, velo.base) as page:
        log_in(page, velo)
        yield page


def test_without_a_log_in_it_shows_nothing(browser: Browser, velo: Stack) -> None:
    addresses = [f"/admin/workers/{model}/" for model in MODELS]
    with watched(browser, velo.base) as page:
        for address in ["/admin/", *addresses, f"{QUEUES}default/"]:
            page.goto(address)
            assert urlsplit(page.url).path == "/admin/login/"
            expect(page.get_by_role("button", name="Log in")).to_be_visible()


def test_a_wrong_password_is_refused(browser: Browser, velo: Stack) -> None:
    with watched(browser, velo.base) as page:
        page.goto("/admin/")
        page.get_by_label("Username").fill("admin")
        page.get_by_label("Password").fill("a guess")
        page.get_by_role("button", name="Log in").click()
        expect(page.locator(".errornote")).to_contain_text("correct username and password")


def test_the_index_leads_to_the_engine_room_and_the_queues(page: Page) -> None:
    rooms = {"Engine room": {f"/admin/workers/{model}/" for model in MODELS}}
    for name, addresses in rooms.items():
        room = page.locator(".module", has=page.locator("caption", has_text=name))
        links = room.locator("th a").all()
        assert {link.get_attribute("href") for link in links} == addresses
        assert all((link.text_content() or "").strip() for link in links)


def test_the_workers_show_how_they_are(page: Page, velo: Stack) -> None:
    for number in range(10):
        assert velo.transform(f"text {number}").status == 200

    def shown() -> list[dict[str, str]]:
        page.goto("/admin/workers/worker/")
        found = rows(page)
        return found if sum(int(row["done"]) for row in found) >= 10 else []

    found = eventually(shown)
    workers = velo.get("/stat").json["workers"]
    assert {row["worker"] for row in found} == {worker[:12] for worker in workers}
    assert len(found) == 2
    for row in found:
        assert row["state"] in ("idle", "busy")
        assert re.fullmatch(r"\d s ago", row["seen"])
        assert VERSION.fullmatch(row["model versions"])
        assert row["node"]
        if int(row["done"]):
            assert MILLISECONDS.fullmatch(row["model time"])
    for badge in page.locator("#result_list .velo-badge").all():
        expect(badge).to_have_class(re.compile("velo-good|velo-active"))


def test_a_list_shows_all_its_columns(page: Page, velo: Stack) -> None:
    """A table that is wider than its place would hide its last columns."""
    velo.transform("at least one row of each")
    for model in FILLED:

        def filled(address: str = f"/admin/workers/{model}/") -> bool:
            page.goto(address)
            return bool(rows(page))

        eventually(filled)
        place = page.locator("#changelist .results")
        assert place.evaluate("it => it.scrollWidth - it.clientWidth") == 0, model


def test_a_worker_leads_to_its_version_and_its_queue(page: Page) -> None:
    page.goto("/admin/workers/worker/")
    page.locator("#result_list .field-holds a").first.click()
    assert urlsplit(page.url).path.startswith("/admin/workers/modelversion/")
    expect(page.locator("#content h2").first).to_have_text(VERSION)
    page.goto("/admin/workers/worker/")
    page.locator("#result_list tbody th a").first.click()
    page.locator(".field-queue_links a").first.click()
    assert urlsplit(page.url).path.startswith(QUEUES)
    expect(page.locator("#content h1")).to_have_text(VERSION)


def test_workers_are_filtered_by_health(page: Page) -> None:
    page.goto("/admin/workers/worker/")
    for health, count in (("Alive", 2), ("Stopped", 0), ("Lost", 0), ("All", 2)):
        page.locator("#changelist-filter").get_by_text(health, exact=True).first.click()
        assert len(rows(page)) == count, health


def test_workers_are_searched(page: Page, velo: Stack) -> None:
    worker = next(iter(velo.get("/stat").json["workers"]))
    page.goto("/admin/workers/worker/")
    for words, found in ((worker, [worker[:12]]), ("nobody-by-this-name", [])):
        page.locator("#searchbar").fill(words)
        page.get_by_role("button", name="Search").click()
        assert [row["worker"] for row in rows(page)] == found


def test_a_worker_has_a_page(page: Page, velo: Stack) -> None:
    page.goto("/admin/workers/worker/")
    page.locator("#result_list tbody th a").first.click()
    worker = urlsplit(page.url).path.split("/")[4]
    assert worker in velo.get("/stat").json["workers"]
    expect(page.locator("#content h2").first).to_have_text(worker)
    fields = {
        (row.locator("label").text_content() or "").strip(): row.locator(".readonly").inner_text()
        for row in page.locator(".form-row").all()
    }
    assert fields["State:"] in ("idle", "busy")
    assert re.fullmatch(r"\S+@\S+, default", fields["Queues:"])
    assert int(fields["PID:"]) in velo.pids("rqworker")
    assert VERSION.search(fields["Model versions:"])
    assert {"ID:", "Seen:", "Node:", "Host:", "Started:", "Jobs done:"} <= set(fields)


@pytest.mark.parametrize("model", WINDOWS)
def test_nobody_writes_what_processes_report(page: Page, velo: Stack, model: str) -> None:
    velo.transform("at least one row of each")
    expect(page.locator(f".app-workers .model-{model} .viewlink")).to_be_visible()
    expect(page.locator(f".app-workers .model-{model}").locator(".addlink")).to_have_count(0)

    def first() -> str:
        page.goto(f"/admin/workers/{model}/")
        link = page.locator("#result_list tbody th a").first
        return link.get_attribute("href") or "" if link.count() else ""

    address = eventually(first)
    expect(page.locator("#content .addlink, #content .actions")).to_have_count(0)
    page.goto(address)
    expect(page.locator("#content .readonly").first).to_be_visible()
    expect(page.locator("#content .submit-row input, #content .deletelink")).to_have_count(0)
    written = [f"/admin/workers/{model}/add/", address, re.sub("/change/$", "/delete/", address)]
    [token] = [cookie for cookie in page.context.cookies() if cookie.get("name") == "csrftoken"]
    for url in written:
        answer = page.request.post(url, headers={"X-CSRFToken": token.get("value", "")})
        assert answer.status == 403, url
        assert "CSRF" not in answer.text(), url


def test_the_version_says_who_runs_it(page: Page) -> None:
    page.goto("/admin/workers/modelversion/")
    [row] = rows(page)
    assert VERSION.fullmatch(row["model version"])
    assert row["state"] == "active"
    assert row["kind"] == "embed"
    assert row["dim."] == "384"
    assert row["live workers"] == "2"
    expect(page.locator(".velo-badge")).to_have_class(re.compile("velo-active"))
    page.locator("#result_list .field-live_workers a").click()
    assert urlsplit(page.url).path == "/admin/workers/worker/"
    assert len(rows(page)) == 2


def test_the_version_says_what_computes_it_and_in_which_batches(page: Page, velo: Stack) -> None:
    assert velo.transform("a text").status == 200

    page.goto("/admin/workers/modelversion/")
    page.locator("#result_list .field-title a").click()
    padding = page.locator(".field-padding .readonly")

    def counted() -> bool:
        page.reload()
        return padding.inner_text().endswith("%")

    eventually(counted)
    expect(page.locator(".field-engine .readonly")).to_contain_text("least cosine to torch fp32")
    expect(page.locator(".velo-bars meter").first).to_be_visible()
    page.goto("/admin/workers/worker/")
    page.locator("#result_list .field-name a").first.click()
    expect(page.locator(".field-held_versions")).to_contain_text("on cpu")


def test_the_latency_of_each_stage_is_shown(page: Page, velo: Stack) -> None:
    assert velo.transform("a text to measure").status == 200

    def shown() -> list[dict[str, str]]:
        page.goto("/admin/workers/modelversion/")
        page.locator("#result_list .field-latency a").click()
        found = rows(page)
        return found if {row["stage"].lower() for row in found} >= {"queue", "response"} else []

    found = eventually(shown)
    assert {row["stage"].lower() for row in found} == {"queue", "model", "response"}
    for row in found:
        assert VERSION.fullmatch(row["model version"])
        assert int(row["count"]) > 0
        for figure in ("mean", "p50", "p95", "p99"):
            assert MILLISECONDS.fullmatch(row[figure]), row
        p50, p95, p99 = (float(row[figure].split()[0]) for figure in ("p50", "p95", "p99"))
        assert p50 <= p95 <= p99


def test_the_queues_are_listed(page: Page) -> None:
    page.locator(".app-workers .model-queue th a").click()
    found = {row["queue"]: row for row in rows(page)}
    assert {name for name in found if VERSION.fullmatch(name)}
    assert {name for name in found if not VERSION.fullmatch(name)} == {"default"}
    for row in found.values():
        assert row["live workers"] == "2"
        assert row["failed"] == "0"


def test_a_finished_job_shows_its_text(page: Page, velo: Stack) -> None:
    text = "Shown on the page of its job"
    page.goto(QUEUES)
    queue = page.locator("#result_list th a", has_text="@").first.inner_text()
    shell(velo, ENQUEUE.format(queue=queue, text=text))
    job = page.locator("#result_list tbody tr", has_text=text).locator("th a")

    def listed() -> bool:
        page.goto(f"{QUEUES}{queue}/?place=finished")
        return bool(job.count())

    eventually(listed)
    job.first.click()
    fields = page.locator(".form-row")
    expect(fields.filter(has_text="Input:")).to_contain_text(text)
    expect(fields.filter(has_text="Calls:")).to_contain_text("workers.jobs.infer")
    expect(fields.filter(has_text="State:")).to_contain_text("finished")
    expect(page.locator(".velo-table tbody tr")).to_contain_text("successful")


def test_a_failed_job_shows_its_traceback_and_is_run_again(
    browser: Browser, tmp_path: Path
) -> None:
    with stack(tmp_path, VELO_PREDICTOR="sleep") as velo, watched(browser, velo.base) as page:
        log_in(page, velo)
        # The command's arguments are strings, which truediv doesn't take.
        enqueued = velo.manage("rqenqueue", "operator.truediv", "1", "0")
        assert enqueued.returncode == 0, enqueued.stderr

        def failed() -> bool:
            page.goto(f"{QUEUES}default/?place=failed")
            return bool(rows(page))

        eventually(failed)
        page.locator("#action-toggle").check()
        expect(page.locator("input.action-select")).to_be_checked()
        page.get_by_role("button", name="Requeue").click()
        expect(page.locator(".velo-chosen li")).to_have_count(1)
        page.locator(".velo-chosen a").click()
        expect(page.locator(".form-row", has_text="State:")).to_contain_text("failed")
        attempts = page.locator(".velo-table tbody tr")
        expect(attempts).to_have_count(1)
        expect(attempts.locator("pre")).to_contain_text("Traceback (most recent call last)")
        expect(attempts.locator("pre")).to_contain_text("TypeError: unsupported operand")
        page.locator(".object-tools").get_by_role("link", name="Requeue").click()
        page.locator("[name=reason]").fill("Once more")
        page.get_by_role("button", name="Requeue").click()
        expect(page.locator(".messagelist")).to_contain_text("1 job is requeued.")

        def ran_again() -> bool:
            page.reload()
            return attempts.count() == 2

        eventually(ran_again)
        page.goto("/admin/workers/intervention/")
        [row] = rows(page)
        assert (row["by"], row["action"], row["reason"]) == ("admin", "requeue", "Once more")

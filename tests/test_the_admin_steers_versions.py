"""Registering, activating, trying out and taking back in the admin, in a real browser."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import Permission, User
from django.core import serializers
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect

from tests.rows import PASSED, a_model, a_version, a_worker, holding, measured
from tests.test_the_admin_shows_it import rows, watched
from workers.catalog import lifecycle
from workers.models import (
    Change,
    GoldenInput,
    ModelVersion,
    ServedModel,
    ShadowComparison,
    Worker,
)
from workers.values.comparing import Likeness

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db(transaction=True)]

VERSIONS = "/admin/workers/modelversion/"
MODELS = "/admin/workers/servedmodel/"
FUTURE = "2999-01-01T00:00Z"  # a worker last seen then stays alive
Enter = Callable[[User], Page]


@pytest.fixture
def enter(browser: Browser, live_server: Any) -> Iterator[Enter]:
    """A page of this user's, who is logged in."""
    open_pages = []

    def opened(user: User, expected: tuple[int, ...] = ()) -> Page:
        client = Client()
        client.force_login(user)
        session = client.cookies[django_settings.SESSION_COOKIE_NAME].value
        watching = watched(browser, live_server.url, expected)
        page = watching.__enter__()
        open_pages.append(watching)
        cookie = {"name": django_settings.SESSION_COOKIE_NAME, "value": session}
        page.context.add_cookies([{**cookie, "url": live_server.url}])
        return page

    yield opened
    for watching in open_pages:
        watching.__exit__(None, None, None)


@pytest.fixture
def anna() -> User:
    return User.objects.create_superuser("anna")


@pytest.fixture
def viewer() -> User:
    """Sees everything, may decide nothing."""
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    return user


@pytest.fixture
def model() -> ServedModel:
    """With an active version 1, which came after 0, and a version 2 that may follow."""
    made = a_model(is_default=True)
    made.previous = a_version(made, "0", state="retired")
    made.save()
    a_version(made, "1", state="active", checks=PASSED)
    a_version(made, "2", checks=PASSED)
    return made


def address(row: ModelVersion | ServedModel, *more: str) -> str:
    base = MODELS if isinstance(row, ServedModel) else VERSIONS
    return "/".join([f"{base}{row.pk}", *(more or ("change",)), ""])


def version(number: str) -> ModelVersion:
    return ModelVersion.objects.get(version=number)


def buttons(page: Page) -> list[str]:
    return [
        text.strip(" …\n")
        for text in page.locator(".object-tools :is(a, button):visible").all_text_contents()
    ]


def submit(page: Page, **fields: str) -> None:
    for name, value in fields.items():
        field = page.locator(f"[name={name}]")
        if field.evaluate("it => it.tagName") == "SELECT":
            field.select_option(label=value)
        else:
            field.fill(value)
    page.locator(".velo-decision [type=submit]").click()


def everything() -> str:
    kinds = (ServedModel, ModelVersion, GoldenInput, Change)
    return serializers.serialize("json", [row for kind in kinds for row in kind.objects.all()])


def test_a_version_is_registered_by_a_form(enter: Enter, anna: User) -> None:
    page = enter(anna)
    page.goto(VERSIONS)
    page.locator(".object-tools .addlink").click()
    submit(page, name="m/n", source="/nowhere/at-all", options="[1]")
    assert page.locator(".field-name .errorlist").inner_text().startswith("It stands in addresses")
    expect(page.locator(".field-options .errorlist")).to_contain_text("Options have names")
    submit(page, name="m", options="")
    expect(page.locator(".errorlist.nonfield")).to_contain_text("/nowhere/at-all")
    assert not ModelVersion.objects.exists()
    submit(page, version="1", source="", kind="Sleep", options='{"a": 1}')
    expect(page.locator(".messagelist")).to_contain_text("m@1 is registered, and is being checked.")
    expect(page.locator(".field-state_and_reason .velo-badge")).to_have_text("checking")
    row = ModelVersion.objects.get()
    assert (row.label, row.model.kind, row.options, row.registered_by) == (
        *("m@1", "sleep"),
        {"a": 1},
        "anna",
    )


def test_a_check_is_watched_until_it_has_ended(
    enter: Enter, anna: User, model: ServedModel
) -> None:
    page = enter(anna)
    page.goto(address(version("2")))
    page.get_by_role("button", name="Check").click()
    expect(page.locator(".messagelist")).to_contain_text("m@2 is being checked.")
    assert "Check" not in buttons(page)
    failed = {"step": "golden", "outcome": "failed", "detail": "[3]: 0.9 instead of 0.1"}
    ModelVersion.objects.filter(version="2").update(
        state="rejected", reason="golden input 1 differs", checks=[*PASSED[:2], failed]
    )
    # Nobody touches the page.
    state = page.locator(".field-state_and_reason .readonly")
    expect(state).to_have_text("rejected golden input 1 differs")
    steps = page.locator(".field-check_steps tbody tr").all_inner_texts()
    assert [line.split("\t")[:2] for line in steps] == [
        *(["source", "passed"], ["load", "passed"], ["golden", "failed"]),
    ]
    assert "[3]: 0.9 instead of 0.1" in steps[-1]
    expect(page.locator("meta[http-equiv=refresh]")).to_have_count(0)
    assert buttons(page) == ["Check"]


def test_an_activation_says_why_and_how_far_it_is(
    enter: Enter, anna: User, model: ServedModel
) -> None:
    for name, state in (("a", "ready"), ("b", "loading")):
        a_worker(name, held={"m@2": holding(state)}, last_seen=FUTURE)
    page = enter(anna)
    page.goto(address(version("2")))
    page.get_by_role("link", name="Activate").click()
    expect(page.locator("#content")).to_contain_text("answer the requests for m instead of m@1")
    submit(page, reason=" ")
    expect(page.locator(".field-reason .errorlist")).to_have_text("This field is required.")
    assert not Change.objects.exists()
    submit(page, reason="Fewer wrong answers")
    change = Change.objects.get()
    assert (change.action, change.outcome, change.by, change.reason) == (
        *("activate", "pending"),
        *("anna", "Fewer wrong answers"),
    )
    progress = page.locator(".field-progress .readonly")
    expect(progress).to_contain_text("pending 1 of 2 workers have it. anna wants it since")
    assert buttons(page) == ["Cancel the activation"]
    Worker.objects.update(held={"m@2": holding("ready")})
    lifecycle.conclude()
    expect(page.locator(".field-state_and_reason .readonly")).to_have_text("active")
    page.goto(MODELS)
    [row] = rows(page)
    assert (row["active"], row["activation"], row["decided by"]) == ("2", "–", "a person")


def test_an_activation_is_cancelled(enter: Enter, anna: User, model: ServedModel) -> None:
    change = lifecycle.activate(version("2"), by="boris", reason="faster")
    page = enter(anna)
    page.goto(MODELS)
    [row] = rows(page)
    assert row["activation"] == "pending 20 of 0 workers have it"  # in two lines
    page.goto(address(model))
    page.get_by_role("link", name="Cancel the activation").click()
    expect(page.locator("#content")).to_contain_text("boris wants m@2 since")
    submit(page)
    expect(page.locator(".messagelist")).to_contain_text("The activation is cancelled")
    change.refresh_from_db()
    assert (change.outcome, change.detail) == ("cancelled", "Cancelled by anna.")


def test_of_two_people_the_second_is_told(enter: Enter, anna: User, model: ServedModel) -> None:
    boris = User.objects.create_superuser("boris")
    a_version(model, "3")
    pages = [enter(user) for user in (anna, boris)]
    for page, number in zip(pages, "23", strict=True):
        page.goto(address(version(number), "decide", "activate"))
    submit(pages[0], reason="mine")
    submit(pages[1], reason="no, mine")
    expect(pages[1].locator(".messagelist .error")).to_have_text(
        re.compile(r"anna is activating m@2 since \d\d:\d\d:\d\d\. Wait until that is over, or")
    )
    expect(pages[1].locator("[name=reason]")).to_have_value("no, mine")
    assert Change.objects.get().by == "anna"


@pytest.mark.parametrize(("role", "most"), [("canary", 99), ("shadow", 100)])
def test_a_version_is_tried_beside_the_active_one(
    enter: Enter, anna: User, model: ServedModel, role: str, most: int
) -> None:
    page = enter(anna)
    page.goto(address(model))
    page.get_by_role("link", name=f"Set a {role}").click()
    options = page.locator("[name=version] option").all_text_contents()
    assert set(options[1:]) == {"m@0", "m@2"}
    submit(page, version="m@2", percent=str(most + 1), reason="how is it?")
    expect(page.locator(".field-percent .errorlist")).to_contain_text(f"than or equal to {most}")
    submit(page, percent=str(most))
    expect(page.locator(f".field-{role}_version .readonly")).to_have_text(f"2 {most} %")
    page.goto(address(version("2")))
    expect(page.locator(".field-state_and_reason")).to_contain_text(f"{role} {most} %")
    page.goto(address(model))
    page.get_by_role("link", name=f"Stop the {role}").click()
    submit(page, reason="seen enough")
    expect(page.locator(f".field-{role}_version .readonly")).to_have_text("–")
    kept = Change.objects.order_by("pk").values_list("action", "share", "by", "reason")
    assert list(kept) == [(role, most, "anna", "how is it?"), (role, 0, "anna", "seen enough")]


def test_a_model_is_rolled_back_and_another_made_the_default(
    enter: Enter, anna: User, model: ServedModel
) -> None:
    other = a_model("other")
    a_version(other, "1", state="active")
    page = enter(anna)
    page.goto(address(model))
    page.get_by_role("link", name="Roll back").click()
    expect(page.locator("#content")).to_contain_text("m@0 will answer the requests for m instead")
    submit(page, reason="Odd answers")
    expect(page.locator(".messagelist")).to_contain_text("m goes back to m@0 as soon as")
    page.goto(address(other))
    page.get_by_role("link", name="Make default").click()
    submit(page, reason="It is better")
    expect(page.locator(".field-default .velo-badge")).to_have_text("default")
    assert "Make default" not in buttons(page)
    kept = Change.objects.order_by("pk").values_list("action", "to_version__version", "reason")
    assert list(kept) == [("rollback", "0", "Odd answers"), ("default", "1", "It is better")]


def test_who_may_not_decide_has_no_buttons_and_is_refused(
    enter: Enter, viewer: User, model: ServedModel
) -> None:
    lifecycle.set_canary(model, version("2"), 10, by="anna", reason="r")
    GoldenInput.objects.create(model=model, input="a", expected=[0.5] * 384)
    before = everything()
    page = enter(viewer, (403,))
    for row in (model, version("2"), version("0")):
        page.goto(address(row))
        assert set(buttons(page)) <= {"Audit trail", "History"}
        expect(page.locator("#content .submit-row input")).to_have_count(0)
    page.goto(VERSIONS)
    expect(page.locator(".addlink")).to_have_count(0)
    client = Client()
    client.force_login(viewer)
    of_models = ("rollback", "cancel", "canary", "stop-canary", "shadow", "default")
    of_versions = ("check", "activate", "canary", "shadow")
    for row, names in ((model, of_models), (version("0"), of_versions)):
        for name in names:
            url = address(row, "decide", name)
            assert client.get(url).status_code == 403, url
            assert client.post(url, {"reason": "r", "percent": "5"}).status_code == 403, url
    for url in (f"{VERSIONS}add/", address(model), address(version("0"))):
        assert client.post(url, {"name": "m"}).status_code == 403, url
    assert everything() == before


def test_who_may_decide_but_not_see_is_refused(model: ServedModel) -> None:
    blind = User.objects.create_user("blind", is_staff=True)
    blind.user_permissions.set(Permission.objects.filter(codename="activate_modelversion"))
    before = everything()
    client = Client()
    client.force_login(blind)
    for row, name in ((model, "rollback"), (version("2"), "activate")):
        url = address(row, "decide", name)
        assert client.get(url).status_code == 403, url
        assert client.post(url, {"reason": "r"}).status_code == 403, url
    assert everything() == before


@pytest.mark.parametrize(
    ("codename", "name", "other"),
    [
        ("activate_modelversion", "activate", "check"),
        ("add_modelversion", "check", "activate"),
    ],
)
def test_each_decision_has_a_permission_of_its_own(
    viewer: User, model: ServedModel, codename: str, name: str, other: str
) -> None:
    viewer.user_permissions.add(Permission.objects.get(codename=codename))
    client = Client()
    client.force_login(viewer)
    before = everything()
    assert client.post(address(version("2"), "decide", other), {"reason": "r"}).status_code == 403
    assert everything() == before
    assert client.post(address(version("2"), "decide", name), {"reason": "r"}).status_code == 302
    assert everything() != before


def test_nothing_is_decided_by_a_get_nor_without_a_token(anna: User, model: ServedModel) -> None:
    lifecycle.set_canary(model, version("2"), 10, by="anna", reason="r")
    lifecycle.activate(version("0"), by="anna", reason="r")
    before = everything()
    client = Client(enforce_csrf_checks=True)
    client.force_login(anna)
    for row in (model, version("2"), version("1")):
        for name in ("rollback", "cancel", "canary", "stop-canary", "default", "check", "activate"):
            url = address(row, "decide", name)
            decided = client.get(url, {"reason": "r", "percent": "5"}).status_code
            assert decided in (200, 404), url
            assert client.post(url, {"reason": "r"}).status_code == 403
    assert client.get(address(model, "decide", "nothing")).status_code == 404
    assert client.get(f"{MODELS}nobody/decide/cancel/").status_code == 404
    assert everything() == before


def test_nobody_edits_or_deletes_a_model_or_a_version(anna: User, model: ServedModel) -> None:
    client = Client()
    client.force_login(anna)
    for row in (model, version("2")):
        assert client.post(address(row, "delete"), {"post": "yes"}).status_code == 403
    assert client.post(address(version("2")), {"version": "3"}).status_code == 403
    assert client.get(f"{MODELS}add/").status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": "m", "post": "yes"}
    client.post(MODELS, chosen)
    client.post(VERSIONS, {**chosen, "_selected_action": version("2").pk})
    assert ModelVersion.objects.count() == 3


def test_golden_inputs_are_kept_on_the_models_page(
    enter: Enter, anna: User, model: ServedModel
) -> None:
    GoldenInput.objects.create(
        model=model, input="Тест!", expected=[0.123456789] * 384, recorded_from="m@1"
    )
    page = enter(anna)
    page.goto(address(model))
    first = page.locator("#golden_inputs-0")
    expect(first.locator("[name$=input]")).to_have_value('"Тест!"')
    assert first.evaluate("it => it.offsetHeight") < 120
    place = page.locator("#golden_inputs-group")
    assert place.evaluate("it => it.scrollWidth - it.clientWidth") <= 0
    first.locator("[name$=tolerance]").fill("0.5")
    page.get_by_role("button", name="Add another Golden input").click()
    page.locator("[name=golden_inputs-1-input]").fill("a text")
    # What is decided meanwhile isn't undone by saving this page.
    ModelVersion.objects.update(checked_at=timezone.now())
    lifecycle.set_canary(model, version("2"), 10, by="boris", reason="r")
    page.get_by_role("button", name="Save and continue").click()
    expect(page.locator(".errorlist")).to_have_text(
        'This isn\'t JSON. Write a text in quotation marks: "like this".'
    )
    page.locator("[name=golden_inputs-1-input]").fill('{"a": 1}')
    page.locator("[name=golden_inputs-1-expected]").fill("[1]")
    page.get_by_role("button", name="Save and continue").click()
    expect(page.locator(".messagelist .success")).to_be_visible()
    kept = GoldenInput.objects.values_list("input", "tolerance", "recorded_from")
    assert list(kept) == [("Тест!", 0.5, "m@1"), ({"a": 1}, 0.01, "anna")]
    assert not GoldenInput.objects.unanswered().exists()
    model.refresh_from_db()
    assert model.canary_share == 10


def test_null_is_an_expected_answer_and_an_empty_field_is_none(
    anna: User, model: ServedModel
) -> None:
    client = Client()
    client.force_login(anna)

    def save(*rows: tuple[str, str]) -> list[tuple[bool, str]]:
        """Input and expected answer; what is kept: whether there is an answer, and from whom."""
        kept = list(model.golden_inputs.values_list("pk", flat=True))
        data = {
            "golden_inputs-TOTAL_FORMS": len(rows),
            "golden_inputs-INITIAL_FORMS": len(kept),
        }
        for number, (given, expected) in enumerate(rows):
            fields = {"input": given, "expected": expected, "tolerance": 0.01, "model": model.pk}
            fields["id"] = kept[number] if number < len(kept) else ""
            data |= {f"golden_inputs-{number}-{name}": value for name, value in fields.items()}
        assert client.post(address(model), data).status_code == 302
        golden = model.golden_inputs.order_by("pk")
        return [(not one.is_unanswered(), one.recorded_from) for one in golden]

    assert save(('"a"', "null"), ('"b"', "")) == [(True, "anna"), (False, "")]
    shown = client.get(address(model)).content.decode()
    assert len(re.findall(r"<textarea[^>]*-expected[^>]*>\s*null</textarea>", shown)) == 1
    assert save(('"c"', "null"), ('"b"', "null")) == [(True, "anna"), (True, "anna")]
    assert save(('"c"', ""), ('"b"', "[1]")) == [(False, ""), (True, "anna")]


def test_a_check_that_waits_is_seen_to_wait(anna: User, model: ServedModel) -> None:
    a_version(model, "3")
    for number in ("2", "3"):
        lifecycle.request_check(version(number))
    client = Client()
    client.force_login(anna)
    page = client.get(address(version("3"))).content.decode()
    assert "waits for its turn, after 1 other check" in page
    assert client.get(VERSIONS).content.decode().count("checking: waits for its turn") == 2


def test_versions_are_compared_side_by_side(enter: Enter, anna: User, model: ServedModel) -> None:
    lifecycle.set_canary(model, version("2"), 10, by="anna", reason="r")
    lifecycle.set_shadow(model, version("0"), 50, by="anna", reason="r")
    measured(version("1"), "response", [0.020] * 90)
    measured(version("1"), "model", [0.010] * 90)
    measured(version("2"), "response", [0.040] * 8, failed=2)
    measured(version("0"), "model", [0.005] * 50)
    likeness = Likeness()
    for similarity in [0.9995] * 49 + [0.95]:
        likeness.add(similarity)
    ShadowComparison.objects.create(
        shadow=version("0"), to=version("1"), count=50, failed=1, likeness=likeness.to_json()
    )
    page = enter(anna)
    page.goto(address(model))
    table = page.locator(".velo-sides")
    assert [head.split() for head in table.locator("thead th").all_inner_texts()] == [
        *([], ["m@1", "active"], ["m@2", "canary", "10", "%"], ["m@0", "shadow", "50", "%"]),
    ]
    shown = dict(line.split("\t", 1) for line in table.locator("tbody tr").all_inner_texts())
    assert shown["requests"] == "90\t10\t0"
    assert shown["share of all"] == "90.0%\t10.0%\t0.0%"  # 100 % together
    assert shown["copies computed"] == "–\t–\t50"
    assert re.fullmatch(r"(19|20)\.\d ms\t(39|40)\.\d ms\t–", shown["response p99"])
    assert re.fullmatch(r"(9|10)\.\d ms\t–\t(4|5)\.\d ms", shown["model p50"])
    assert shown["failed"] == "0\t2\t0"
    assert shown["error rate"] == "0.0%\t20.0%\t–"
    alike = page.locator(".velo-alike > tbody > tr > td").all_inner_texts()
    assert alike[:5] == ["m@1", "50", "1", "0.99851", "0.95000"]
    assert alike[5].split() == ["0.95", "1", "0.999", "49"]
    page.locator(".object-tools").get_by_role("link", name="Audit trail").click()
    expect(page.locator("#content h1")).to_have_text("Audit trail")
    assert {row["action"] for row in rows(page)} == {"canary", "shadow"}


def test_a_worker_shows_what_it_holds(enter: Enter, anna: User, model: ServedModel) -> None:
    why = "MemoryError: too big"
    a_worker(
        "w",
        held={"m@1": holding("ready"), "m@2": holding("failed", error=why, memory=None)},
        last_seen=FUTURE,
    )
    a_worker("other", last_seen=FUTURE)
    page = enter(anna)
    page.goto(VERSIONS)
    assert {row["model version"]: row["live workers"] for row in rows(page)} == {
        "m@0": "0",
        "m@1": "1",
        "m@2": "0 of 1",
    }
    page.locator("#result_list .field-live_workers a", has_text="0 of 1").click()
    expect(page.locator("#content h1")).to_have_text("Workers")
    [row] = rows(page)
    assert row["worker"] == "w"
    assert re.fullmatch(r"m@1\s*m@2 failed", row["model versions"])
    page.locator("#result_list .field-name a").click()
    lines = page.locator(".field-held_versions tbody tr")
    expect(lines).to_have_count(2)
    held = lines.all_inner_texts()
    assert [line.split("\t")[0] for line in held] == ["m@1", "m@2"]
    assert why in held[1]
    page.locator(".field-held_versions a", has_text="m@2").click()
    expect(page.locator("#content h2").first).to_have_text("m@2")
    expect(page.locator(".field-in_workers tbody tr")).to_contain_text(why)

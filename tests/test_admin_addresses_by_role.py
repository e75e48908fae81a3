"""Every address of the admin, and who gets which answer there. An address that isn't in the table
fails the test."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core import serializers
from django.http import HttpResponse
from django.test import Client as Browser
from django.urls import URLPattern, URLResolver, get_resolver
from rq.job import Job

from tests.jobs import waiting
from tests.rows import a_model, a_version, a_worker, measured
from workers.broker.connection import connection
from workers.catalog import clients
from workers.models import (
    Change,
    Client,
    GoldenInput,
    Intervention,
    Key,
    ModelVersion,
    RequestRecord,
    ServedModel,
    Usage,
)

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db]

ROLES = ("anonymous", "nobody", "viewer", "operator", "superuser")
OPERATES = (
    *("activate_modelversion", "add_modelversion", "read_job_input"),
    *("read_request_input", "empty_queue", "requeue_job", "cancel_job", "delete_job"),
)
LOGIN = 302  # to the page that asks for a password

# What a GET answers to each of ROLES.
STAFF = (LOGIN, 200, 200, 200, 200)
VIEWERS = (LOGIN, 403, 200, 200, 200)
OPERATORS = (LOGIN, 403, 403, 200, 200)
SUPERUSER = (LOGIN, 403, 403, 403, 200)
NOWHERE = (LOGIN, 404, 404, 404, 404)
NEVER = (LOGIN, 403, 403, 403, 403)
MOVED = (LOGIN, 302, 302, 302, 302)  # to …/change/, whose answer counts

STORED = {
    "": VIEWERS,
    "add/": NEVER,
    "<path:object_id>/": MOVED,
    "<path:object_id>/change/": VIEWERS,
    "<path:object_id>/history/": VIEWERS,
    "<path:object_id>/delete/": NEVER,
}
EDITED = {**STORED, "add/": SUPERUSER, "<path:object_id>/delete/": SUPERUSER}

TABLE = {
    "": STAFF,
    "login/": (200, 302, 302, 302, 302),
    "logout/": (LOGIN, 405, 405, 405, 405),
    "password_change/": STAFF,
    "password_change/done/": STAFF,
    "autocomplete/": (LOGIN, 403, 403, 403, 403),
    "jsi18n/": STAFF,
    "r/<path:content_type_id>/<path:object_id>/": NOWHERE,
    "^(?P<app_label>auth|workers)/$": (LOGIN, 404, 200, 200, 200),
    "(?P<url>.*)$": NOWHERE,
    **{f"auth/group/{end}": expected for end, expected in EDITED.items()},
    **{f"auth/user/{end}": expected for end, expected in EDITED.items()},
    "auth/user/<id>/password/": SUPERUSER,
    **{f"workers/servedmodel/{end}": expected for end, expected in STORED.items()},
    "workers/servedmodel/<path:object_id>/decide/<slug:name>/": OPERATORS,
    **{f"workers/modelversion/{end}": expected for end, expected in STORED.items()},
    "workers/modelversion/add/": OPERATORS,
    "workers/modelversion/<path:object_id>/decide/<slug:name>/": OPERATORS,
    **{f"workers/worker/{end}": expected for end, expected in STORED.items()},
    **{f"workers/latencysample/{end}": expected for end, expected in STORED.items()},
    **{f"workers/change/{end}": expected for end, expected in STORED.items()},
    **{f"workers/intervention/{end}": expected for end, expected in STORED.items()},
    **{f"workers/client/{end}": expected for end, expected in EDITED.items()},
    "workers/client/<path:object_id>/delete/": NEVER,
    "workers/client/<path:object_id>/make-key/": SUPERUSER,
    **{f"workers/key/{end}": expected for end, expected in STORED.items()},
    "workers/key/<path:object_id>/decide/<slug:name>/": SUPERUSER,
    **{f"workers/requestrecord/{end}": expected for end, expected in STORED.items()},
    **{f"workers/usage/{end}": expected for end, expected in STORED.items()},
    "workers/queue/": VIEWERS,
    "workers/queue/<str:queue>/": VIEWERS,
    "workers/queue/<str:queue>/job/<str:job_id>/": VIEWERS,
    "workers/queue/<str:queue>/do/<slug:action>/": OPERATORS,
}

Rows = dict[str, str]


def addresses(patterns: Any = None, before: str = "") -> Iterator[str]:
    """Every pattern below /admin/, as the resolver has it."""
    if patterns is None:
        [admin] = [one for one in get_resolver().url_patterns if str(one.pattern) == "admin/"]
        assert isinstance(admin, URLResolver)
        patterns = admin.url_patterns
    for one in patterns:
        route = f"{before}{one.pattern}"
        if isinstance(one, URLPattern):
            yield route
        else:
            yield from addresses(one.url_patterns, route)


@pytest.fixture
def rows() -> Rows:
    """Something of each kind: by the name of its table, the key of a row."""
    model = a_model(is_default=True)
    version = a_version(model, "1", state="active")
    a_version(model, "2")
    GoldenInput.objects.create(model=model, input="a", expected=[0.5])
    group = Group.objects.create(name="g")
    change = Change.objects.create(model=model, action="register", by="anna", reason="r")
    done = Intervention.objects.create(action="empty", queue="m@1", by="anna", reason="r")
    client = Client.objects.create(name="shop")
    return {
        "user": str(User.objects.create(username="somebody").pk),
        "group": str(group.pk),
        "servedmodel": "m",
        "modelversion": str(version.pk),
        "worker": a_worker().pk,
        "latencysample": str(measured(version, "model", [0.1]).pk),
        "change": str(change.pk),
        "intervention": str(done.pk),
        "client": str(client.pk),
        "key": str(clients.make_key(client, "anna").row.pk),
        "requestrecord": str(
            RequestRecord.objects.create(
                uid="1", request_id="id", at=client.created, status=400, body="a secret text"
            ).pk
        ),
        "usage": str(Usage.objects.create(client="shop", model="m", day=client.created).pk),
        "job": waiting("m@1", "a secret text"),
    }


def url(route: str, rows: Rows) -> str:
    """An example of this pattern."""
    table = route.split("/")[1] if route.count("/") > 1 else ""
    query = f"?job={rows['job']}" if "/do/" in route else ""
    for name, value in (
        ("^(?P<app_label>auth|workers)/$", "workers/"),
        ("(?P<url>.*)$", "nowhere"),
        ("r/<path:content_type_id>/<path:object_id>/", "r/9999/1/"),
        ("<path:object_id>", rows.get(table, "")),
        ("<id>", rows["user"]),
        ("<slug:name>", "revoke" if table == "key" else "canary"),
        ("<str:queue>", "m@1"),
        ("<str:job_id>", rows["job"]),
        ("<slug:action>", "cancel"),
    ):
        route = route.replace(name, value)
    return f"/admin/{route}{query}"


def client_of(role: str) -> Browser:
    client = Browser(raise_request_exception=False)
    if role == "anonymous":
        return client
    if role == "superuser":
        user = User.objects.create_superuser(role)
    else:
        user = User.objects.create_user(role, is_staff=True)
    if role in ("viewer", "operator"):
        user.user_permissions.add(*Permission.objects.filter(codename__startswith="view_"))
    if role == "operator":
        user.user_permissions.add(*Permission.objects.filter(codename__in=OPERATES))
    client.force_login(user)
    return client


def stored() -> str:
    """Everything that a click could change, but for sessions and log-ins."""
    kinds: Any = (ServedModel, ModelVersion, GoldenInput, Change, Intervention, Group)
    kinds += (Client, Key, Usage, RequestRecord)
    found = serializers.serialize("json", [row for kind in kinds for row in kind.objects.all()])
    keys = sorted(connection().scan_iter())
    return f"{found} {User.objects.count()} {[(key, connection().dump(key)) for key in keys]}"


def test_every_address_of_the_admin_is_in_the_table() -> None:
    assert sorted(addresses()) == sorted(TABLE)


@pytest.mark.parametrize("role", ROLES)
def test_each_role_gets_what_the_table_says_and_a_get_changes_nothing(
    rows: Rows, role: str
) -> None:
    client = client_of(role)
    before = stored()
    found, expected = {}, {}
    for route, statuses in TABLE.items():
        answer = client.get(url(route, rows))
        found[route] = answer.status_code
        expected[route] = statuses[ROLES.index(role)]
        if role == "anonymous" and route != "login/":
            to_login = answer.headers["Location"].startswith(("/admin/login/", "/admin/"))
            assert to_login, route
        if role != "superuser" and role != "operator":
            assert b"a secret text" not in answer.content, route
        client.cookies.pop("messages", None)
    wrong = {route: was for route, was in found.items() if was != expected[route]}
    assert not wrong
    assert stored() == before


@pytest.mark.parametrize("role", ROLES)
def test_who_may_not_do_it_changes_nothing_by_posting(rows: Rows, role: str) -> None:
    client = client_of(role)
    fields = {"reason": "r", "percent": "5", "name": "m", "post": "yes", "username": "x"}
    fields |= {"version": "7", "kind": "sleep"}
    for route, statuses in TABLE.items():
        if route in ("login/", "logout/", "password_change/"):
            continue
        before = stored()
        answer = client.post(url(route, rows), fields)
        if statuses[ROLES.index(role)] in (302, 403, 404):
            assert stored() == before, route
            assert answer.status_code in (302, 403, 404, 405), route


def test_staff_without_permissions_see_no_link_and_no_name(rows: Rows) -> None:
    index = client_of("nobody").get("/admin/").content.decode()
    assert not re.findall(r'href="/admin/(?:workers|auth)/[^"]*"', index)
    assert "m@1" not in index


def test_a_staff_user_without_permissions_does_nothing_to_a_queue(rows: Rows) -> None:
    client = client_of("nobody")
    for action in ("empty", "requeue", "cancel", "delete"):
        address = f"/admin/workers/queue/m@1/do/{action}/?job={rows['job']}"
        for method in (client.get, client.post):
            assert method(address, {"reason": "r"}).status_code == 403
    assert Job.exists(rows["job"], connection())


@pytest.mark.parametrize(
    ("address", "status", "says"),
    [
        ("/admin/nowhere", 404, "The address is wrong, or what was here is gone."),
        ("/admin/workers/queue/nothing@1/", 404, "There is no queue nothing@1."),
        ("/admin/workers/queue/m@1/job/gone/", 404, "forgotten, or was deleted"),
        ("/admin/workers/servedmodel/add/", 403, "superuser</strong> may"),
    ],
)
def test_an_error_page_says_what_to_do_and_leads_back(
    rows: Rows, address: str, status: int, says: str
) -> None:
    _is_proper(client_of("superuser").get(address), status, says)


def test_a_form_without_its_token_gets_a_proper_page(rows: Rows) -> None:
    client = Browser(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("root"))
    answer = client.post("/admin/workers/queue/m@1/do/empty/", {"reason": "r"})
    _is_proper(answer, 403, "Nothing was changed.")
    assert Job.exists(rows["job"], connection())


def test_a_mistake_of_ours_gets_a_proper_page(rows: Rows, monkeypatch: Any) -> None:
    def broken(*args: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("workers.admin.queues.inspecting.counts", broken)
    _is_proper(client_of("superuser").get("/admin/workers/queue/"), 500, "has the traceback")


def _is_proper(answer: HttpResponse, status: int, says: str) -> None:
    page = answer.content.decode()
    assert answer.status_code == status
    assert says in re.sub(r"\s+", " ", page)
    assert '<a href="/admin/">' in page
    assert "velo/admin.css" in page

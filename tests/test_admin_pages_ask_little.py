"""Each list and each page of the admin asks the database as often for 200 rows as for 1."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Group, User
from django.db import connection as database
from django.db.models import Model
from django.test import Client as Browser
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.jobs import waiting
from tests.rows import PASSED, a_model, a_version, a_worker, holding
from workers.admin.addresses import action_page, job_page, queue_page
from workers.catalog import clients
from workers.models import (
    Change,
    Client,
    GoldenInput,
    Intervention,
    Key,
    LatencySample,
    ModelVersion,
    Queue,
    RequestRecord,
    ServedModel,
    ShadowComparison,
    Usage,
    Worker,
)

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db]

PAGES = (
    *(User, Group, ServedModel, ModelVersion, Worker, LatencySample, Change, Intervention),
    *(Client, Key, Usage, RequestRecord),
)
MANY = 200


@pytest.fixture
def superuser(client: Browser) -> Browser:
    client.force_login(User.objects.create_superuser("root"))
    return client


def grow(numbers: range) -> None:
    """A row of each kind for each of `numbers`, and on the pages of model m0 all that can stand
    there: versions, golden inputs, comparisons, live workers, changes."""
    minute = timezone.now().replace(second=0, microsecond=0)
    for number in numbers:
        model = a_model(f"m{number}")
        active = a_version(model, "1", state="active", checks=PASSED, memory=10**8)
        next_one = a_version(model, "2")
        for role in ("canary", "shadow"):
            ServedModel.objects.filter(pk=model.pk).update(**{role: next_one, f"{role}_share": 5})
        fields = {"model": model, "from_version": active, "to_version": next_one}
        Change.objects.create(
            **fields, action="activate", outcome="pending", by="anna", reason="a test"
        )
        holds = dict.fromkeys((active.label, "m0@1", "m0@2"), holding("ready"))
        a_worker(f"w{number}", held=holds, queues=",".join(holds), last_seen=minute + timedelta(1))
        ago = timedelta(minutes=number % 50)
        LatencySample.objects.create(minute=minute - ago, stage="model", model_version=next_one)
        first = ServedModel.objects.get(pk="m0")
        beside = a_version(first, f"x{number}")
        ShadowComparison.objects.create(shadow=first.shadow, to=beside)
        GoldenInput.objects.create(model=first, input=number, expected=[0.5])
        Change.objects.create(
            **{**fields, "model": first, "to_version": beside}, action="shadow", by="a", reason="r"
        )
        label = beside.label
        Intervention.objects.create(action="empty", queue=label, by="anna", reason="a test")
        waiting("m0@1")
        waiting(label)
        client = Client.objects.create(name=f"c{number}", asks_all_models=False)
        client.models_allowed.set([model, first])
        for name in (client, Client.objects.get(name="c0")):
            clients.make_key(name, "anna")
        day = (minute - timedelta(days=number)).date()
        Usage.objects.create(client="c0", model="m0", day=day)
        RequestRecord.objects.create(
            uid=str(number), request_id="id", at=minute, status=500, client="c0", job=str(number)
        )
        User.objects.create(username=f"u{number}").groups.add(
            Group.objects.create(name=f"g{number}")
        )


def address(model: type[Model], row: Model | None = None) -> str:
    base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
    return f"{base}{quote(row.pk)}/change/" if row else base


def asked(client: Browser, url: str, **headers: Any) -> list[str]:
    with CaptureQueriesContext(database) as queries:
        assert client.get(url).status_code == 200, url
    return [query["sql"] for query in queries]


def test_there_is_a_row_here_for_each_table_of_the_admin() -> None:
    assert set(admin.site._registry) == {*PAGES, Queue}


def test_a_page_asks_as_often_for_many_rows_as_for_one(superuser: Browser) -> None:
    grow(range(1))
    job = waiting("m0@1")
    first = {model: model._default_manager.order_by("pk")[0] for model in PAGES}
    lists = [address(model) for model in PAGES]
    urls = [*lists, *(address(model, row) for model, row in first.items())]
    urls += [address(Queue), queue_page("m0@1"), job_page("m0@1", job)]
    urls += [action_page("m0@1", "cancel", [job]), action_page("m0@1", "empty")]
    urls += [f"{address(LatencySample)}?since=24", f"{address(Worker)}?health=alive&holds=m0%401"]
    for url in urls:
        asked(superuser, url)  # what is asked once in a process doesn't count
    before = {url: asked(superuser, url) for url in urls}
    grow(range(1, MANY))
    for url in urls:
        after = asked(superuser, url)
        assert len(after) == len(before[url]), "\n".join([url, *after])


def test_the_list_of_latencies_never_asks_the_whole_table_for_its_days(superuser: Browser) -> None:
    grow(range(3))
    for url in (address(LatencySample), f"{address(LatencySample)}?since=1"):
        queries = [sql for sql in asked(superuser, url) if "workers_latencysample" in sql]
        assert not [sql for sql in queries if "DISTINCT" in sql or "MIN(" in sql]
        assert len([sql for sql in queries if "COUNT(" in sql]) == 1


@pytest.mark.parametrize(
    ("since", "found"), [("1", 1), ("24", 2), ("168", 3), ("", 4), ("yesterday", 4)]
)
def test_latencies_are_listed_since_a_time(superuser: Browser, since: str, found: int) -> None:
    version = a_version(a_model())
    for hours in (0, 20, 100, 1000):
        minute = timezone.now() - timedelta(hours=hours)
        LatencySample.objects.create(minute=minute, stage="model", model_version=version)
    listed = superuser.get(address(LatencySample), {"since": since} if since else {})
    assert listed.context["cl"].result_count == found

"""RQ's pages in the admin show each version's queue, also of one that came after they began."""

import re

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from tests.jobs import live
from tests.waiting import eventually
from workers.broker import enqueue as broker
from workers.broker.enqueue import NewJob

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db]

DASHBOARD = "/admin/django_rq/dashboard/"


def enqueue(label: str) -> str:
    """A job that waits there; its id."""
    live("w1", label)
    job = NewJob(label, "text", f"infer: for {label}", 30)
    assert broker.enqueue(label, [job]).admitted
    return job.id


def page(admin: Client, path: str) -> str:
    answer = admin.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_versions_queue_is_there_as_soon_as_it_has_had_a_job() -> None:
    admin = Client()
    admin.force_login(get_user_model().objects.create_superuser("admin"))
    assert "n@1" not in page(admin, DASHBOARD)
    for label in ("m@1", "n@1"):
        job = enqueue(label)
        shown = eventually(lambda label=label: label in (it := page(admin, DASHBOARD)) and it)
        found = re.search(rf'href="([^"]*/queues/\d+/[^"]*)"[^>]*>\s*{label}', shown)
        at = shown.index(label)
        assert found, shown[at - 600 : at + 200]
        listed = page(admin, found[1])
        assert job in listed
        assert f"Queue {label}" in listed
    assert "m@1" in page(admin, DASHBOARD)

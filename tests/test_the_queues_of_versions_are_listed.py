"""The admin lists each version's queue, also of one that came after it began; RQ finds any."""

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django_rq import get_queue

from tests.jobs import waiting

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db]

LIST = "/admin/workers/queue/"


def page(admin: Client, path: str) -> str:
    answer = admin.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_versions_queue_is_there_as_soon_as_it_has_had_a_job() -> None:
    admin = Client()
    admin.force_login(get_user_model().objects.create_superuser("admin"))
    assert "n@1" not in page(admin, LIST)
    for label in ("m@1", "n@1"):
        job = waiting(label)
        assert f'href="{LIST}{label}/"' in page(admin, LIST)
        listed = page(admin, f"{LIST}{label}/")
        assert job in listed
        assert f"<h1>{label}</h1>" in listed
    assert "m@1" in page(admin, LIST)


def test_rqs_commands_find_the_queue_of_any_version_and_no_other() -> None:
    assert get_queue("a@new").name == "a@new"
    with pytest.raises(KeyError):
        get_queue("low")

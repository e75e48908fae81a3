"""What is in the audit trail stays there as it is, whoever asks."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import ProtectedError
from django.test import Client

from tests.rows import a_model, a_version
from workers.catalog import lifecycle
from workers.catalog.lifecycle import concluding
from workers.models import Change, ModelVersion, ServedModel

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db]

TRAIL = "/admin/workers/change/"


@pytest.fixture
def change() -> Change:
    """An activation that failed."""
    model = a_model()
    a_version(model, "1", state="active")
    lifecycle.activate(a_version(model, "2"), by="anna", reason="faster")
    concluding.end(Change.objects.get(), Change.Outcome.FAILED, "Traceback:\n  <line 1>")
    return Change.objects.get()


@pytest.fixture
def superuser(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root"))
    return client


def test_nobody_adds_changes_or_deletes_an_entry(superuser: Client, change: Change) -> None:
    before = Change.objects.values().get()
    one = f"{TRAIL}{change.pk}/"
    fields = {"reason": "another", "by": "boris", "post": "yes"}
    for address in (f"{TRAIL}add/", f"{one}change/", f"{one}delete/"):
        assert superuser.post(address, fields).status_code == 403, address
    selected = {"action": "delete_selected", "_selected_action": change.pk, "post": "yes"}
    superuser.post(TRAIL, selected)
    assert Change.objects.values().get() == before
    page = superuser.get(TRAIL).content.decode()
    assert "action-select" not in page
    assert f"{TRAIL}add/" not in page


def test_nothing_it_names_is_deleted(superuser: Client, change: Change) -> None:
    for row in (ServedModel.objects.get(), *ModelVersion.objects.all()):
        with pytest.raises(ProtectedError):
            row.delete()
    assert (
        superuser.post("/admin/workers/servedmodel/m/delete/", {"post": "yes"}).status_code == 403
    )
    assert Change.objects.exists()


def test_it_stays_when_who_decided_is_gone(superuser: Client, change: Change) -> None:
    anna = User.objects.create_user("anna")
    superuser.post(f"/admin/auth/user/{anna.pk}/delete/", {"post": "yes"})
    assert not User.objects.filter(username="anna").exists()
    assert Change.objects.get().by == "anna"


def test_an_entry_shows_why_it_failed_line_by_line(superuser: Client, change: Change) -> None:
    page = superuser.get(f"{TRAIL}{change.pk}/change/").content.decode()
    assert '<pre class="velo-text">Traceback:\n  &lt;line 1&gt;</pre>' in page


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"model__name__exact": "m"}, 1),
        ({"model__name__exact": "n"}, 0),
        ({"action__exact": "activate", "outcome__exact": "failed"}, 1),
        ({"outcome__exact": "done"}, 0),
        ({"at__year": "1999"}, 0),
        ({"q": "fast"}, 1),
    ],
)
def test_it_is_filtered(superuser: Client, change: Change, asked: Any, found: int) -> None:
    a_model("n")
    assert superuser.get(TRAIL, asked).context["cl"].result_count == found

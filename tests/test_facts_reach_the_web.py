"""A version's facts go from its predictor to the database, the plan and the admin."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.answering import model, plan_of
from tests.letters import Letters, work
from tests.rows import a_model, a_version
from workers.catalog import plan, trial
from workers.catalog.plan import Plan
from workers.models import ModelVersion
from workers.predictors import sleep
from workers.runtime import bookkeeping

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db(transaction=True)]

FACTS = {"max_tokens": 7, "labels": ["bad", "good"], "dtype": "bf16"}


def planned(label: str) -> Any:
    """In the plan that Redis has."""
    published = plan.published()
    assert published
    version = published.version(label)
    assert version
    return version.facts


def test_a_check_finds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    version = a_version(a_model(kind="sleep"), state="checking")
    assert version.facts == {}
    monkeypatch.setattr(sleep.SleepPredictor, "facts", FACTS)
    trial.run(version.pk)
    version.refresh_from_db()
    assert (version.state, version.facts) == ("ready", FACTS)
    assert planned(version.label) == FACTS


def test_a_worker_reports_those_of_what_it_was_started_with(letters: Letters) -> None:
    letters.facts = FACTS
    work()
    bookkeeping.write()
    version = ModelVersion.objects.get()
    assert (version.label, version.facts) == ("letters@1", FACTS)
    assert plan.publish().version("letters@1") == plan.decided().version("letters@1")
    assert planned("letters@1") == FACTS


def test_a_start_finds_those_of_a_version_from_before_the_upgrade(letters: Letters) -> None:
    a_version(a_model("letters", follows_environment=True), state="active")
    assert plan.publish().to_json() == plan.decided().to_json()
    assert planned("letters@1") == {}
    letters.facts = FACTS
    work()
    bookkeeping.write()
    assert ModelVersion.objects.get().facts == FACTS


def test_a_plan_of_an_older_velo_has_none_and_of_a_newer_more() -> None:
    kept = json.loads(plan_of(model("a", "1")).to_json())
    version = kept["models"]["a"]["versions"]["1"]
    del version["facts"]
    older = Plan.from_json(json.dumps(kept)).version("a@1")
    assert older
    assert older.facts == {}
    version |= {"facts": FACTS, "colour": "red"}
    newer = Plan.from_json(json.dumps(kept)).version("a@1")
    assert newer
    assert newer.facts == FACTS


def test_the_admin_shows_them(client: Client) -> None:
    client.force_login(User.objects.create_superuser("root"))
    known, unknown = (
        a_version(a_model(name), facts=facts) for name, facts in [("a", FACTS), ("b", {})]
    )
    pages = [
        client.get(f"/admin/workers/modelversion/{one.pk}/change/") for one in (known, unknown)
    ]
    assert [page.status_code for page in pages] == [200, 200]
    assert "max_tokens&quot;: 7" in pages[0].content.decode()
    assert "max_tokens" not in pages[1].content.decode()

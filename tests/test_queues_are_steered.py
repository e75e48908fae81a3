"""Queues and jobs in the admin: found by their names, shown to those who may, and changed for a
reason that the audit trail keeps."""

from io import StringIO
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import Client
from redis import Redis
from rq.job import Job

from tests.jobs import claim, waiting
from tests.rows import a_model, a_version
from tests.stack import ROOT
from tests.waiting import eventually
from workers.admin.addresses import action_page, job_page, queue_page
from workers.broker import deadlines, inspecting, rescue
from workers.broker.claims import Claim
from workers.broker.clock import clock
from workers.broker.connection import connection
from workers.broker.inspecting import Place
from workers.models import Intervention

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db]

QUEUE = "my_model@1"
LIST = "/admin/workers/queue/"
SECRET = "a secret text"


@pytest.fixture
def anna(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("anna"))
    return client


@pytest.fixture
def viewer() -> Client:
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(user)
    return client


def page(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, address
    return answer.content.decode()


def act(client: Client, action: str, *ids: str, **fields: str) -> str:
    """What the page after it says."""
    address = action_page(QUEUE, action, ids)
    return client.post(address, {"reason": "a test", **fields}, follow=True).content.decode()


def status(job_id: str) -> str:
    return (connection().hget(Job.key_for(job_id), "status") or b"").decode()


def crash(claimed: Claim) -> None:
    """As if the worker that has it died."""
    rescue.charge("a test", [claimed.execution_key], "a test")


def poisonous() -> str:
    """A job that failed since it was in as many crashes as may be; its id."""
    job_id = waiting(QUEUE, SECRET)
    for _ in range(django_settings.VELO_MAX_CRASHES):
        [claimed] = claim("a test", QUEUE)
        crash(claimed)
    assert status(job_id) == "failed"
    return job_id


def failed(count: int = 1) -> list[str]:
    """Jobs that failed without a crash."""
    ids = [waiting(QUEUE, f"text {number}") for number in range(count)]
    for job_id in ids:
        connection().lrem(Place.QUEUED.key(QUEUE), 0, job_id)
        connection().hset(Job.key_for(job_id), "status", "failed")
        connection().zadd(Place.FAILED.key(QUEUE), {job_id: clock.now() + 600})
    return ids


def test_queues_are_listed_with_their_counts(anna: Client) -> None:
    ids = [waiting(QUEUE) for _ in range(3)]
    claim("a test", QUEUE, limit=1)
    [counted] = inspecting.counts([QUEUE])
    assert (counted.jobs[Place.QUEUED], counted.jobs[Place.STARTED], counted.workers) == (2, 1, 1)
    shown = page(anna, LIST)
    assert f'href="{LIST}my_5Fmodel@1/"' in shown
    assert ">default</a>" in shown
    queued = page(anna, queue_page(QUEUE))
    assert ids[0] not in queued
    assert ids[1] in queued
    assert ids[0] in page(anna, queue_page(QUEUE, place="started"))


def test_an_address_that_a_person_types_leads_to_its_queue(anna: Client) -> None:
    """It stays that of this queue, whatever comes and goes."""
    job_id = waiting(QUEUE)
    before = page(anna, f"{LIST}my_model@1/")
    waiting("a@1")
    assert job_id in before
    assert job_id in page(anna, f"{LIST}my_model@1/")
    assert job_id in page(anna, f"{LIST}my_model@1/job/{job_id}/")


@pytest.mark.parametrize("address", ["nothing@1/", "-1/", "99999/", "nothing@1/do/empty/"])
def test_a_queue_that_is_not_there_is_404(anna: Client, address: str) -> None:
    waiting(QUEUE)
    assert anna.get(f"{LIST}{address}").status_code == 404


def test_a_job_of_another_queue_is_404(anna: Client) -> None:
    other = waiting("a@1")
    waiting(QUEUE)
    assert anna.get(job_page(QUEUE, other)).status_code == 404
    act(anna, "delete", other)
    act(anna, "cancel", other)
    assert status(other) == "queued"


def test_a_versions_queue_is_there_before_its_first_job(anna: Client) -> None:
    a_version(a_model("my_model"), "1")
    assert "No queued jobs" in page(anna, queue_page(QUEUE))


@pytest.mark.parametrize("number", ["1", "2", "3", "-1", "99999999999999999999", "x"])
def test_a_long_queue_comes_in_pages_none_of_which_is_missing(anna: Client, number: str) -> None:
    ids = [waiting(QUEUE) for _ in range(52)]
    shown = page(anna, f"{queue_page(QUEUE)}?p={number}")
    found = [job_id for job_id in ids if job_id in shown]
    assert found == (ids[50:] if number in ("2", "3", "99999999999999999999") else ids[:50])


def test_what_has_ended_is_listed_the_latest_first_without_what_is_over() -> None:
    now = clock.now()
    kept = {"old": now + 10, "new": now + 20, "over": now - 10, "for ever": -1}
    connection().zadd(Place.FAILED.key(QUEUE), kept)
    assert inspecting.counts([QUEUE])[0].jobs[Place.FAILED] == 3
    assert inspecting.listed(QUEUE, Place.FAILED, 0, 10) == ["new", "old", "for ever"]
    assert inspecting.listed(QUEUE, Place.FAILED, 1, 1) == ["old"]
    assert inspecting.listed(QUEUE, Place.FAILED, 2, 1) == ["for ever"]
    assert inspecting.listed(QUEUE, Place.FAILED, 3, 1) == []


def test_an_input_is_shown_to_nobody_without_the_permission(anna: Client, viewer: Client) -> None:
    job_id = waiting(QUEUE, SECRET)
    pages = (queue_page(QUEUE), job_page(QUEUE, job_id))
    for address in pages:
        assert SECRET in page(anna, address)
        assert SECRET not in page(viewer, address)
    assert "Only people with the permission" in page(viewer, job_page(QUEUE, job_id))


def test_a_job_that_was_in_crashes_shows_its_history(viewer: Client) -> None:
    shown = page(viewer, job_page(QUEUE, poisonous()))
    assert "2 crashes" in shown
    assert "a test: a test" in shown  # which worker, and why
    assert "Poisonous: 2 crashes with this job in flight" in shown
    assert SECRET not in shown


@pytest.mark.parametrize("action", ["requeue", "cancel", "delete", "empty"])
def test_nothing_happens_without_a_reason_or_by_a_get(anna: Client, action: str) -> None:
    ids = [waiting(QUEUE), *failed()]
    before = [connection().dump(Job.key_for(job_id)) for job_id in ids]
    address = action_page(QUEUE, action, ids)
    assert anna.get(address, {"reason": "r", "job": ids}).status_code == 200
    asked = anna.post(address, {"reason": " "})
    assert asked.status_code == 200
    assert b"This field is required." in asked.content
    assert [connection().dump(Job.key_for(job_id)) for job_id in ids] == before
    assert not Intervention.objects.exists()


def test_failed_jobs_are_requeued_and_the_trail_says_who_did_it_and_why(anna: Client) -> None:
    ids = failed(2)
    running = waiting(QUEUE)
    claim("a test", QUEUE)
    said = act(anna, "requeue", *ids, running, reason="The disk was full")
    assert "2 jobs are requeued; 1 not: gone, or waiting or running already." in said
    assert [job.job_id for job in claim("a test", QUEUE)] == ids
    row = Intervention.objects.get()
    assert (row.action, row.queue, row.by, row.reason, row.outcome, row.jobs.split()) == (
        *("requeue", QUEUE, "anna", "The disk was full", "done"),
        [*ids, running],
    )
    trail = page(anna, "/admin/workers/intervention/")
    assert "The disk was full" in trail
    assert "2 jobs are requeued" in trail


def test_two_people_requeue_a_job_once(anna: Client) -> None:
    ids = failed()
    act(anna, "requeue", *ids)
    assert "0 jobs are requeued" in act(anna, "requeue", *ids)
    assert connection().llen(Place.QUEUED.key(QUEUE)) == 1


def test_a_job_that_is_asked_again_is_computed_though_its_deadline_is_over(
    anna: Client, settings: Any
) -> None:
    [job_id] = failed()
    over = clock.now()
    connection().hset(Job.key_for(job_id), "meta", f'{{"deadline": {over}}}')
    connection().expire(Job.key_for(job_id), 600)
    eventually(lambda: clock.now() > over + 0.01)
    act(anna, "requeue", job_id)
    assert connection().ttl(Job.key_for(job_id)) == -1  # it waits for as long as it takes
    [claimed] = claim("a test", QUEUE)
    assert deadlines.is_asked_again(claimed)
    assert not deadlines.nobody_waits(claimed, clock.now())


def test_a_poisonous_job_is_requeued_by_its_id_alone_and_takes_down_one_more_worker(
    anna: Client,
) -> None:
    job_id = poisonous()
    asked = page(anna, action_page(QUEUE, "requeue", [job_id]))
    assert "This job may be poisonous: 2 workers crashed with it in flight." in asked
    assert "take down 1 more" in asked
    act(anna, "requeue", job_id)
    assert "This isn&#x27;t the job&#x27;s id" in act(anna, "requeue", job_id, confirm="yes")
    assert status(job_id) == "failed"
    assert not Intervention.objects.exists()
    assert "1 job is requeued." in act(anna, "requeue", job_id, confirm=job_id)
    others = [waiting(QUEUE) for _ in range(3)]
    [claimed] = claim("a test", QUEUE)
    assert (claimed.job_id, claimed.suspect) == (job_id, True)  # alone, though others wait
    crash(claimed)
    assert status(job_id) == "failed"
    assert {one.job_id for one in claim("a test", QUEUE)} == set(others)


def test_poisonous_jobs_are_left_out_where_many_are_requeued(anna: Client) -> None:
    bad, also_bad = poisonous(), poisonous()
    good = failed(2)
    asked = page(anna, action_page(QUEUE, "requeue", [bad, *good]))
    assert "1 job is left out: in flight when a worker crashed." in asked
    assert "2 jobs are requeued." in act(anna, "requeue", bad, *good)
    assert status(bad) == "failed"
    assert "2 jobs are left out" in act(anna, "requeue", bad, also_bad)


def test_waiting_jobs_are_canceled_and_can_be_requeued(anna: Client) -> None:
    first, second = waiting(QUEUE), waiting(QUEUE)
    assert "1 job is canceled." in act(anna, "cancel", first)
    assert [one.job_id for one in claim("a test", QUEUE)] == [second]
    assert first in page(anna, queue_page(QUEUE, place="canceled"))
    assert "0 jobs are canceled; 1 not: gone, or running or ended" in act(anna, "cancel", second)
    act(anna, "requeue", first)
    assert [one.job_id for one in claim("a test", QUEUE)] == [first]


def test_jobs_are_deleted_but_not_while_they_run(anna: Client) -> None:
    running, waits, [ended] = waiting(QUEUE), waiting(QUEUE), failed()
    claim("a test", QUEUE, limit=1)
    assert "2 jobs are deleted; 1 not: gone, or running." in act(
        anna, "delete", running, waits, ended
    )
    assert [Job.exists(one, connection()) for one in (running, waits, ended)] == [
        *(True, False, False)
    ]


def test_a_queue_is_emptied_and_no_other(anna: Client) -> None:
    ids, other, kept = [waiting(QUEUE), waiting(QUEUE)], waiting("a@1"), failed()
    assert "2 jobs are deleted." in act(anna, "empty")
    assert not any(Job.exists(job_id, connection()) for job_id in ids)
    assert status(other) == "queued"
    assert status(kept[0]) == "failed"
    assert Intervention.objects.get().detail == "2 jobs are deleted."


def test_what_redis_refuses_stands_in_the_trail_as_failed(
    anna: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    [job_id] = failed()
    nowhere = Redis.from_url("unix:///nowhere/valkey.sock").connection_pool

    def away(name: str, ids: Any) -> list[str]:
        monkeypatch.setattr(connection(), "connection_pool", nowhere)
        return [name] if connection().ping() else []

    monkeypatch.setattr("workers.admin.queue_actions.steering.empty", lambda name: away(name, []))
    anna.post(action_page(QUEUE, "empty"), {"reason": "r"})
    monkeypatch.undo()
    row = Intervention.objects.get()
    assert row.outcome == "failed"
    assert "Redis: " in row.detail
    assert status(job_id) == "failed"


def test_without_redis_the_pages_say_what_is_away(
    anna: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = Redis.from_url("unix:///nowhere/valkey.sock")
    monkeypatch.setattr(connection(), "connection_pool", nowhere.connection_pool)
    for address in (LIST, queue_page(QUEUE), job_page(QUEUE, "x"), action_page(QUEUE, "empty")):
        answer = anna.get(address)
        assert answer.status_code == 503
        assert answer["Retry-After"] == "5"
        assert b"REDIS_URL" in answer.content


@pytest.mark.parametrize("lists", ["change", "delete"])
def test_nobody_changes_or_deletes_an_entry_of_the_trail(anna: Client, lists: str) -> None:
    waiting(QUEUE)
    act(anna, "empty")
    before = Intervention.objects.values().get()
    address = f"/admin/workers/intervention/{before['id']}/{lists}/"
    assert anna.post(address, {"post": "yes", "reason": "another"}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": before["id"], "post": "yes"}
    anna.post("/admin/workers/intervention/", chosen)
    assert Intervention.objects.values().get() == before


def test_the_docs_name_every_permission_of_queues_and_jobs() -> None:
    named = Permission.objects.filter(content_type__model="queue")
    documented = (ROOT / "docs/run.md").read_text()
    assert named.count() == 6
    assert not [one for one in named if f"| `{one.codename}` |" not in documented]


def test_a_dump_of_the_database_does_without_a_table_of_queues() -> None:
    a_model("my_model")
    dumped = StringIO()
    call_command("dumpdata", "workers", stdout=dumped)
    assert "my_model" in dumped.getvalue()

"""Failures, refusals and a share of the successes are kept, and found by their ids in the admin."""

import hashlib
import json
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client as Browser
from django.utils import timezone
from redis.exceptions import ConnectionError as RedisAway

from inference import timing
from tests.answering import answering, model, plan_of, publish
from tests.stack import Stack, stack
from tests.waiting import eventually
from workers.admin.look import page
from workers.broker.connection import connection
from workers.metrics import records
from workers.metrics.records import ALONE_AT_MOST, KEY, Record, Records
from workers.models import Client, RequestRecord, prune
from workers.runtime import bookkeeping

LIST = "/admin/workers/requestrecord/"


@pytest.mark.usefixtures("redis")
@pytest.mark.django_db(transaction=True)
class TestInTheProcess:
    @pytest.fixture(autouse=True)
    def one_model(self, redis: None, settings: Any) -> None:
        settings.VELO_RECORD_SHARE = 0.0
        timing.timings().recorder.records = Records()
        publish(plan_of(model("a", "1", active="1")), {"w": ["a@1"]})

    def post(self, path: str, body: Any, request_id: str = "my-id") -> int:
        browser = Browser(headers={"X-Request-Id": request_id})
        return browser.post(path, json.dumps(body), content_type="application/json").status_code

    def kept(self) -> list[RequestRecord]:
        timing.timings().recorder.flush()
        bookkeeping.write()
        return list(RequestRecord.objects.order_by("pk"))

    def test_an_error_is_kept_with_what_is_known_of_it(self) -> None:
        assert self.post("/v1/embeddings", {"input": ["x", " "]}) == 400
        [row] = self.kept()
        assert (row.request_id, row.endpoint, row.status) == ("my-id", "openai", 400)
        assert (row.code, row.model, row.version) == ("blank_input", "a", "1")
        assert row.detail.startswith("input[1]: ")
        assert row.inputs == 2
        assert row.total_seconds is not None
        assert row.body == ""

    @pytest.mark.parametrize(("share", "kept"), [(0.0, 0), (1.0, 1)])
    def test_of_answers_a_share_is_kept(self, settings: Any, share: float, kept: int) -> None:
        settings.VELO_RECORD_SHARE = share
        with answering(["a@1"]):
            assert self.post("/transform", "text") == 200
        rows = self.kept()
        assert len(rows) == kept
        for row in rows:
            assert (row.status, row.code, row.tokens, row.inputs) == (200, "", 3, 1)
            assert (row.worker, row.queue_seconds, row.model_seconds) == ("by hand", 0.001, 0.01)

    def test_slow_answers_are_kept(self, settings: Any) -> None:
        settings.VELO_RECORD_SLOW_MS = 1
        with answering(["a@1"], lambda label, data: time.sleep(0.01) or [1.0]):
            assert self.post("/transform", "text") == 200
        assert [row.status for row in self.kept()] == [200]

    def test_pages_and_probes_are_not_kept(self) -> None:
        for path in ("/nowhere", "/health/live", "/models", "/admin/login/", "/"):
            Browser().get(path)
        assert self.kept() == []

    def test_refusals_are_counted_together_when_they_are_many(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        many = ALONE_AT_MOST + 7
        for number in range(many):
            assert self.post("/transform", "", f"id-{number}") == 400
        assert self.post("/transform", 5, "other") == 400  # of another sort
        assert len(self.kept()) == ALONE_AT_MOST + 1
        monkeypatch.setattr(records, "WINDOW", 0.0)
        rows = self.kept()
        assert [row.count for row in rows] == [1] * (ALONE_AT_MOST + 1) + [7]
        assert rows[-1].request_id == f"id-{ALONE_AT_MOST}"

    def test_nothing_is_written_twice_and_nothing_stays(self) -> None:
        self.post("/transform", "")
        timing.timings().recorder.flush()
        [raw] = connection().lrange(KEY, 0, -1)
        bookkeeping.write()
        assert connection().llen(KEY) == 0
        connection().rpush(KEY, raw, raw, "no record")  # as if the writer had died before
        bookkeeping.write()
        assert RequestRecord.objects.count() == 1
        assert connection().llen(KEY) == 0

    def test_while_redis_is_away_the_newest_are_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def away() -> None:
            raise RedisAway

        pending = Records()
        for number in range(records.PENDING_AT_MOST + 5):
            pending.add(Record(str(number), "velo", 200))
        with monkeypatch.context() as patch:
            patch.setattr(records, "connection", away)
            with pytest.raises(RedisAway):
                pending.flush()
        pending.flush()
        waiting = [json.loads(raw)["request_id"] for raw in connection().lrange(KEY, 0, -1)]
        assert waiting == [str(number) for number in range(5, records.PENDING_AT_MOST + 5)]

    def test_while_the_database_is_away_so_many_wait(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(records, "WAITING_AT_MOST", 3)
        pending = Records()
        for number in range(5):
            pending.add(Record(str(number), "velo", 200))
        pending.flush()
        assert connection().llen(KEY) == 3

    def test_what_a_database_cant_store_is_mended(self) -> None:
        pending = Records()
        workers = ",".join(["0" * 32] * 30)
        odd = Record("1", "velo", 500, detail="a\0b\ud800", body="\0", worker=workers, label="a@1")
        pending.add(odd)
        pending.flush()
        bookkeeping.write()
        row = RequestRecord.objects.get()
        assert (row.detail, row.body, len(row.worker)) == ("a\ufffdb?", "\ufffd", 300)

    def test_records_and_their_inputs_end(self, settings: Any) -> None:
        settings.VELO_RECORD_DAYS, settings.VELO_RECORD_INPUT_DAYS = 30, 2
        for days in (1, 3, 31):
            RequestRecord.objects.create(
                uid=str(days),
                request_id=str(days),
                at=timezone.now() - timedelta(days=days),
                status=200,
                body="secret",
            )
        assert prune()["requests"] == 1
        assert dict(RequestRecord.objects.values_list("uid", "body")) == {"1": "secret", "3": ""}


@pytest.mark.django_db
class TestInTheAdmin:
    @pytest.fixture(autouse=True)
    def row(self) -> RequestRecord:
        return RequestRecord.objects.create(
            uid="1",
            request_id="find-me",
            at=timezone.now(),
            endpoint="openai",
            client="shop",
            model="a",
            version="1",
            status=400,
            code="invalid_input",
            detail="a secret detail",
            body="a secret text",
        )

    def staff(self, *permissions: str) -> Browser:
        user = User.objects.create_user("anna", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        browser = Browser()
        browser.force_login(user)
        return browser

    def test_it_is_found_by_its_id(self, admin_client: Browser) -> None:
        found = admin_client.get(f"{LIST}?q=find-me").content.decode()
        assert "1 request" in found
        assert "shop" in found
        assert "0 requests" in admin_client.get(f"{LIST}?q=find").content.decode()

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("status=4", 1),
            ("status=5", 0),
            ("code=invalid_input", 1),
            ("code=poisonous", 0),
            ("since=1", 1),
            ("endpoint=openai", 1),
            ("endpoint=tei", 0),
            ("client=shop", 1),
        ],
    )
    def test_it_is_found_by_what_it_was(
        self, admin_client: Browser, query: str, found: int
    ) -> None:
        Client.objects.create(name="shop")
        shown = admin_client.get(f"{LIST}?{query}").content.decode()
        assert ("find-me" in shown) == bool(found)

    def test_the_input_needs_a_permission_of_its_own(self, row: RequestRecord) -> None:
        viewer = self.staff("view_requestrecord")
        shown = viewer.get(page(row)).content.decode()
        assert "secret" not in shown
        assert "find-me" in shown
        User.objects.all().delete()
        reader = self.staff("view_requestrecord", "read_request_input")
        shown = reader.get(page(row)).content.decode()
        assert "a secret text" in shown
        assert "a secret detail" in shown

    def test_the_list_asks_no_more_for_more_rows(
        self, admin_client: Browser, django_assert_max_num_queries: Any
    ) -> None:
        for number in range(100):
            RequestRecord.objects.create(
                uid=f"x{number}", request_id=str(number), at=timezone.now(), status=503
            )
        with django_assert_max_num_queries(14):
            assert admin_client.get(LIST).status_code == 200


@pytest.fixture(scope="module")
def velo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(
        tmp_path_factory.mktemp("velo"),
        DJANGO_SETTINGS_MODULE="tests.faults.settings",
        VELO_SLEEP_MS=1,
        VELO_RETRY_MAX=1,
        VELO_RECORD_INPUT_DAYS=1,
    ) as running:
        yield running


SHOW = """
import json
from workers.models import RequestRecord
found = RequestRecord.objects.filter(request_id="from-curl").values(
    "status", "code", "version", "job", "attempts", "digest", "body", "size").first()
print(json.dumps(found))
"""


def test_a_failed_request_is_found_by_its_id_with_its_attempts_and_its_log_line(
    velo: Stack,
) -> None:
    body = b'"raise: it does"'
    headers = {"Content-Type": "application/json", "X-Request-Id": "from-curl"}
    answer = velo.request("POST", "/transform", body, headers)
    assert (answer.status, answer.headers["x-request-id"]) == (500, "from-curl")

    def shown() -> Any:
        return json.loads(velo.manage("shell", "--verbosity", "0", "-c", SHOW).stdout)

    found = eventually(shown)
    assert (found["status"], found["code"]) == (500, "model_failed")
    assert found["job"] == answer.json["job_id"]
    assert [one["outcome"] for one in found["attempts"]] == ["retried", "failed"]
    [worker] = velo.get("/stat").json["workers"]
    assert {one["worker"] for one in found["attempts"]} == {worker}
    assert found["digest"] == hashlib.sha256(body).hexdigest()
    assert (found["body"], found["size"]) == (body.decode(), len(body))
    line = f"job {found['job']} (request from-curl): ValueError"
    assert line in velo.output()

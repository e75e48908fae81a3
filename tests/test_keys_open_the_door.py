"""With VELO_AUTH=keys each request needs a valid key, in every protocol; a client may do what its
grant says, and sees nothing else."""

import json
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.test import Client as Browser
from django.utils import timezone

from inference import keys, timing
from inference.keys import keyring
from tests.answering import answering, model, plan_of, publish
from tests.rows import a_model
from tests.stack import Stack, stack
from tests.waiting import eventually
from workers.broker import grants
from workers.broker.connection import connection
from workers.broker.grants import Grant
from workers.catalog import clients
from workers.models import Client, Key
from workers.runtime import bookkeeping

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db(transaction=True)]

VECTOR = [0.6, 0.8]


@pytest.fixture(autouse=True)
def needs_keys(settings: Any, redis: None, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.VELO_AUTH = "keys"
    publish(
        plan_of(model("a", "1", active="1"), model("b", "1", active="1")), {"w": ["a@1", "b@1"]}
    )
    clients.publish()
    fresh = keys.Keyring()
    monkeypatch.setattr(keys, "keyring", lambda: fresh)
    monkeypatch.setattr(f"{__name__}.keyring", lambda: fresh)


def a_key(name: str = "shop", **fields: Any) -> str:
    client, _ = Client.objects.get_or_create(name=name, defaults=fields)
    made = clients.make_key(client, "anna")
    know()
    return made.key


def know() -> None:
    clients.publish()
    keyring().refresh()


def ask(path: str, body: Any, key: str | None = None, **headers: str) -> Any:
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    return Browser(headers=headers).post(path, json.dumps(body), content_type="application/json")


BODIES = {
    "/transform": "text",
    "/models/a/transform": "text",
    "/v1/embeddings": {"input": "text"},
    "/embed": {"inputs": "text"},
    "/models/a/embed": {"inputs": "text"},
    "/v2/models/a/infer": {"inputs": []},
    "/v1/rerank": {"query": "q", "documents": ["d"]},
    "/": {"inputs": "text"},
}


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("key", [None, "velo-unknown", ""])
def test_without_a_valid_key_each_protocol_says_401_in_its_form(path: str, key: str | None) -> None:
    answer = ask(path, BODIES[path], key)
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"] == "Bearer"
    assert answer["X-Request-Id"]
    said = answer.json()
    if path.startswith("/v1"):
        assert said["error"]["type"] == "authentication_error"
        assert said["error"]["code"] == "invalid_api_key"
    elif "transform" in path:
        assert said["code"] == "invalid_api_key"
    else:
        assert "no valid API key" in said["error"]


@pytest.mark.parametrize("path", ["/stat", "/models", "/v1/models", "/info", "/v2", "/nowhere"])
def test_what_only_shows_needs_a_key_too(path: str) -> None:
    assert Browser().get(path).status_code == 401
    key = {"Authorization": f"Bearer {a_key()}"}
    assert Browser(headers=key).get(path).status_code != 401


@pytest.mark.parametrize(
    "path", ["/health/live", "/health/ready", "/health", "/v2/health/live", "/docs", "/schema"]
)
def test_probes_and_documentation_are_open(path: str) -> None:
    assert Browser().get(path).status_code == 200


def test_the_root_leads_to_the_documentation() -> None:
    assert Browser().get("/").status_code == 302


def test_the_schema_names_models_only_to_keys() -> None:
    assert '"/models/a/' not in json.dumps(Browser().get("/schema").json())
    key = {"Authorization": f"Bearer {a_key()}"}
    assert "/models/a/transform" in Browser(headers=key).get("/schema").json()["paths"]


def test_the_schema_asks_for_a_key(settings: Any) -> None:
    paths = Browser().get("/schema").json()["paths"]
    assert paths["/transform"]["post"]["security"] == [{"key": []}]
    assert paths["/health/live"]["get"]["security"] == []
    settings.VELO_AUTH = "open"
    assert "securitySchemes" not in Browser().get("/schema").json()["components"]


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
def test_a_key_may_come_in_either_header(header: str) -> None:
    key = a_key()
    value = f"bearer  {key}" if header == "Authorization" else key
    with answering(["a@1"], lambda label, data: VECTOR):
        answer = ask("/transform", "text", **{header: value})
    assert answer.status_code == 200, answer.content


def test_an_unknown_a_revoked_and_an_expired_key_get_the_same_answer() -> None:
    revoked, expired, disabled = a_key(), a_key(), a_key("off")
    rows = {row.digest: row for row in Key.objects.all()}
    clients.revoke([rows[grants.digest(revoked)]], "anna")
    row = rows[grants.digest(expired)]
    row.expires = timezone.now() - timedelta(seconds=1)
    row.save()
    Client.objects.filter(name="off").update(is_enabled=False)
    know()
    said = {
        ask("/transform", "text", key).content for key in (revoked, expired, disabled, "velo-x")
    }
    assert len(said) == 1


def test_a_key_ends_at_its_time_though_nobody_publishes_anything(settings: Any) -> None:
    key = a_key()
    [(digest, grant)] = (grants.published() or {}).items()
    grants.publish({digest: Grant(grant.client, expires=timezone.now().timestamp() - 1)})
    keyring().refresh()
    assert ask("/transform", "text", key).status_code == 401


def test_a_key_without_the_right_to_a_model_finds_no_such_model() -> None:
    a_model("a")
    client = Client.objects.create(name="shop", asks_all_models=False)
    client.models_allowed.set(["a"])
    key = a_key()
    with answering(["a@1", "b@1"], lambda label, data: VECTOR):
        assert ask("/models/a/transform", "text", key).status_code == 200
        forbidden = ask("/models/b/transform", "text", key)
        unknown = ask("/models/c/transform", "text", key)
        assert forbidden.status_code == unknown.status_code == 404
        assert forbidden.json()["detail"] == unknown.json()["detail"].replace("'c'", "'b'")
        assert "b" not in [one["id"] for one in listed(key)]
        named = ask("/v1/embeddings", {"input": "text", "model": "b"}, key)
        assert named.json()["error"]["code"] == "model_not_found"
        assert ask("/v2/models/b/infer", {"inputs": []}, key).status_code == 404
        assert ask("/transform", "text", key).status_code == 200  # a is the default


def test_a_client_that_may_ask_no_model_any_more_doesnt_see_all() -> None:
    Client.objects.create(name="shop", asks_all_models=False)
    key = a_key()
    assert listed(key) == []
    assert ask("/models/a/transform", "text", key).status_code == 404
    assert ask("/transform", "text", key).status_code == 503


def listed(key: str) -> Any:
    return Browser(headers={"Authorization": f"Bearer {key}"}).get("/v1/models").json()["data"]


def test_redis_holds_no_key_and_keys_are_no_part_of_a_log(caplog: Any) -> None:
    key = a_key()
    with answering(["a@1"], lambda label, data: VECTOR):
        ask("/transform", "text", key)
    ask("/transform", "text", key[:-1])
    assert key not in caplog.text
    for name in connection().scan_iter():
        assert key.encode() not in (connection().dump(name) or b"")
    assert key not in str(list(Key.objects.values_list()))


def test_while_redis_is_away_or_empty_known_keys_stay() -> None:
    key = a_key()
    connection().delete(grants.KEY, grants.STAMP)
    keyring().refresh()
    with answering(["a@1"], lambda label, data: VECTOR):
        assert ask("/transform", "text", key).status_code == 200
    clients.publish()
    assert grants.published()


def test_while_no_keys_are_known_the_queue_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    key = a_key()
    connection().delete(grants.KEY, grants.STAMP)
    started = keys.Keyring()
    monkeypatch.setattr(keys, "keyring", lambda: started)
    answer = ask("/transform", "text", key)
    assert (answer.status_code, answer.json()["code"]) == (503, "queue_away")
    assert ask("/transform", "text").status_code == 401
    clients.publish()
    with answering(["a@1"], lambda label, data: VECTOR):
        assert ask("/transform", "text", key).status_code == 200


def test_a_key_says_when_it_was_used() -> None:
    key = a_key()
    with answering(["a@1"], lambda label, data: VECTOR):
        ask("/transform", "text", key)
    timing.timings().recorder.flush()
    bookkeeping.write()
    used = Key.objects.get().last_used
    assert used is not None
    assert timezone.now() - used < timedelta(minutes=1)


def test_open_means_that_any_header_will_do(settings: Any) -> None:
    settings.VELO_AUTH = "open"
    with answering(["a@1"], lambda label, data: VECTOR):
        for key in (None, "anything"):
            assert ask("/transform", "text", key).status_code == 200


@pytest.mark.parametrize(
    ("host", "auth", "warned"),
    [("0.0.0.0", "open", True), ("0.0.0.0", "keys", False), ("127.0.0.1", "open", False)],
)
def test_a_check_warns_of_an_open_api(settings: Any, host: str, auth: str, warned: bool) -> None:
    settings.HOST, settings.VELO_AUTH = host, auth
    assert ("velo.W002" in [found.id for found in run_checks()]) == warned


# --- the command ----------------------------------------------------------------------------------


def command(*words: str) -> str:
    out = StringIO()
    call_command("velo_keys", *words, stdout=out, stderr=StringIO())
    return out.getvalue()


def test_the_command_makes_limits_lists_and_revokes() -> None:
    a_model("a")
    key = command("create", "shop", "--days", "3", "--inputs-per-minute", "600").strip()
    assert grants.digest(key) in (grants.published() or {})
    assert "600 inputs per minute" in command("list")
    limited = command("limit", "shop", "--models", "a", "--inputs-per-minute", "none")
    assert limited == "shop: a\n"
    assert command("limit", "shop", "--priority", "background") == "shop: a; background\n"
    [grant] = (grants.published() or {}).values()
    assert (grant.models, grant.background, grant.inputs_per_minute) == (("a",), True, None)
    command("disable", "shop")
    assert grants.published() == {}
    command("enable", "shop")
    assert "is revoked" in command("revoke", key[:12])
    assert grants.published() == {}
    assert f"{key[:12]}… revoked" in command("list")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("limit", "nobody"), "There is no client nobody. Known: shop."),
        (("revoke", "velo-nothing"), "There is no key that begins with velo-nothing."),
        (("limit", "shop", "--models", "x"), "There is no model x. Known: none."),
        (("create", "sh/op"), "Use letters, digits"),
        (("limit", "shop", "--tokens-per-day", "0"), "a whole number from 1 up"),
    ],
)
def test_the_command_says_what_is_wrong(words: tuple[str, ...], says: str) -> None:
    command("create", "shop")
    with pytest.raises(CommandError, match=says):
        command(*words)


# --- as it runs -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def velo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(
        tmp_path_factory.mktemp("velo"), VELO_AUTH="keys", VELO_PREDICTOR="sleep", VELO_SLEEP_MS=1
    ) as running:
        yield running


def test_a_key_is_valid_at_once_and_a_revoked_key_is_not_within_two_seconds(velo: Stack) -> None:
    body = b'"text"'

    def status(key: str) -> int:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        return velo.request("POST", "/transform", body, headers).status

    refused = velo.transform("text")
    assert refused.status == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.headers["x-request-id"]
    key = velo.manage("velo_keys", "create", "shop").stdout.strip()
    eventually(lambda: status(key) == 200, seconds=2)
    assert "is revoked" in velo.manage("velo_keys", "revoke", key[:12]).stdout
    eventually(lambda: status(key) == 401, seconds=2)
    assert key not in velo.output()

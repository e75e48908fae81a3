"""A client's limits hold over all web processes, its headers are true, and it can't fill the queue
for the others. What it has used is counted where jobs are finished."""

import threading
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.test import Client as Browser
from django.utils import timezone

from inference import callers
from inference.callers import Caller
from inference.choice import Target
from inference.dispatch import ask
from inference.errors import QueueFull, RateLimited
from inference.gate import Gate, Refusal, Visit
from tests.answering import answering, leave, model, plan_of, publish, waiting
from tests.jobs import admitted, claim, lease_lasts
from tests.jobs import waiting as a_job
from tests.letters import Letters, work
from tests.waiting import eventually
from workers.broker import claims, steering
from workers.broker import enqueue as broker
from workers.broker.connection import connection
from workers.broker.enqueue import Admission, NewJob, Verdict, withdraw
from workers.broker.grants import Grant
from workers.broker.names import QUEUE, Lane
from workers.broker.rescue import HUNG, charge, rescue
from workers.metrics import usage
from workers.models import Usage, prune
from workers.runtime import bookkeeping

pytestmark = pytest.mark.usefixtures("redis")

LABEL = "a@1"
A = Target("a")


def grant(client: str = "shop", **limits: Any) -> Grant:
    return Grant(client, **limits)


def let_in(who: Grant | None, inputs: int = 1, **fields: Any) -> Verdict:
    """What a request of so many inputs is told."""
    several = inputs > 1
    data: Any = ["x"] * inputs if several else "x"
    job = NewJob(LABEL, data, "d", 30, several=several, grant=who, **fields)
    with admitted(LABEL):
        [verdict] = broker.enqueue(LABEL, [job]).verdicts
    return verdict


def pass_time(client: str, seconds: float) -> None:
    """As if the client had sent nothing for so long."""
    key = f"velo:bucket:{client}"
    at = float(connection().hget(key, "at") or 0)
    connection().hset(key, "at", at - seconds)


# --- inputs a minute ------------------------------------------------------------------------------


def test_a_bucket_is_full_at_first_and_fills_again() -> None:
    shop = grant(inputs_per_minute=60)
    for left in (50, 40, 30, 20, 10, 0):
        verdict = let_in(shop, 10)
        assert (verdict.admission, verdict.inputs_left) == (Admission.ADMITTED, left)
        assert verdict.full_in == pytest.approx(60 - left, abs=1)
    refused = let_in(shop, 10)
    assert refused.admission is Admission.RATE
    assert refused.retry_after == pytest.approx(10, abs=1)
    pass_time("shop", refused.retry_after)
    assert let_in(shop, 10).admission is Admission.ADMITTED
    assert let_in(shop, 1).admission is Admission.RATE
    pass_time("shop", 3600)
    assert let_in(shop, 1).inputs_left == 59


def test_a_request_with_more_inputs_than_a_minutes_is_let_in_by_a_full_bucket() -> None:
    shop = grant(inputs_per_minute=60)
    assert let_in(shop, 120).admission is Admission.ADMITTED
    refused = let_in(shop, 1)
    assert refused.admission is Admission.RATE
    assert refused.retry_after == pytest.approx(61, abs=1)
    assert let_in(shop, 120).retry_after == pytest.approx(120, abs=1)


def test_what_is_refused_takes_nothing() -> None:
    shop = grant(inputs_per_minute=10)
    assert let_in(shop, 8).inputs_left == 2
    assert let_in(shop, 5).admission is Admission.RATE
    assert let_in(shop, 2).admission is Admission.ADMITTED


def test_each_client_has_a_bucket_of_its_own_for_all_its_keys() -> None:
    assert let_in(grant(inputs_per_minute=1, key=1)).admission is Admission.ADMITTED
    assert let_in(grant(inputs_per_minute=1, key=2)).admission is Admission.RATE
    assert let_in(grant("other", inputs_per_minute=1)).admission is Admission.ADMITTED


def test_a_limit_that_is_lowered_holds_at_once() -> None:
    let_in(grant(inputs_per_minute=600))
    assert let_in(grant(inputs_per_minute=6)).inputs_left == 5


def test_two_processes_at_once_let_in_no_more() -> None:
    shop = grant(inputs_per_minute=100)
    found: list[Verdict] = []
    jobs = [NewJob(LABEL, "x", "d", 30, grant=shop) for _ in range(200)]

    def send(some: list[NewJob]) -> None:
        for job in some:
            found.extend(broker.enqueue(LABEL, [job]).verdicts)

    with admitted(LABEL):
        threads = [threading.Thread(target=send, args=(jobs[n::4],)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    let = sum(one.admission is Admission.ADMITTED for one in found)
    assert 100 <= let <= 103  # the bucket fills meanwhile


# --- tokens a day ---------------------------------------------------------------------------------


def finish(*answered: tuple[int, int]) -> list[int]:
    """Whatever waits is answered with so many inputs and tokens."""
    found = claim("w", LABEL)
    answers = [
        claims.Answer(one, {"output": 1}, 60, inputs, tokens, LABEL)
        for one, (inputs, tokens) in zip(found, answered, strict=True)
    ]
    return claims.finish(connection(), "w", answers, 0.1)


def test_tokens_are_counted_when_they_are_read_and_end_with_the_day() -> None:
    shop = grant(tokens_per_day=10)
    verdict = let_in(shop)
    assert (verdict.admission, verdict.tokens_left) == (Admission.ADMITTED, 10)
    now = datetime.now(UTC)
    midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
    assert verdict.day_ends_in == pytest.approx((midnight - now).total_seconds(), abs=2)
    assert finish((1, 7)) == [claims.WRITTEN]
    assert let_in(shop).tokens_left == 3
    assert finish((1, 7)) == [claims.WRITTEN]
    refused = let_in(shop)
    assert (refused.admission, refused.tokens_left) == (Admission.TOKENS, 0)
    assert refused.retry_after == pytest.approx(refused.day_ends_in, abs=1)
    assert let_in(grant("other", tokens_per_day=10)).admission is Admission.ADMITTED


# --- inputs at once -------------------------------------------------------------------------------


def test_as_many_inputs_as_may_be_open_at_once_and_no_more() -> None:
    shop = grant(inputs_at_once=5)
    assert let_in(shop, 3).admission is Admission.ADMITTED
    assert let_in(shop, 3).admission is Admission.AT_ONCE
    assert let_in(shop, 2).admission is Admission.ADMITTED
    assert let_in(shop).admission is Admission.AT_ONCE


def open_inputs(client: str = "shop") -> int:
    return int(connection().get(f"velo:open:{client}:inputs") or 0)


def an_open_job(inputs: int = 2) -> NewJob:
    job = NewJob(LABEL, ["x"] * inputs, "d", 30, several=True, grant=grant(inputs_at_once=5))
    with admitted(LABEL):
        assert broker.enqueue(LABEL, [job]).admitted == 1
    assert open_inputs() == inputs
    return job


def test_what_is_answered_is_open_no_more() -> None:
    an_open_job()
    assert finish((2, 9)) == [claims.WRITTEN]
    assert open_inputs() == 0


def test_what_is_withdrawn_is_open_no_more() -> None:
    assert withdraw([an_open_job()]) == [0]
    assert open_inputs() == 0


def test_what_is_to_be_asked_apart_is_open_again_input_by_input() -> None:
    an_open_job()
    claim("w", LABEL)
    lease_lasts("w", -0.1, LABEL)
    assert len(rescue()) == 1
    assert open_inputs() == 0


def test_what_workers_crash_on_is_open_no_more(settings: Any) -> None:
    let_in(grant(inputs_at_once=5))
    for _ in range(settings.VELO_MAX_CRASHES):
        assert open_inputs() == 1
        [claimed] = claim("w", LABEL)
        charge("w", [claimed.execution_key], HUNG)
    assert open_inputs() == 0


def test_what_a_worker_puts_back_stays_open() -> None:
    an_open_job()
    [claimed] = claim("w", LABEL)
    claims.put_back(connection(), "w", [claimed.execution_key])
    assert open_inputs() == 2


def test_what_nobody_releases_is_open_until_its_time_is_over() -> None:
    job = an_open_job(5)
    steering.delete(LABEL, [job.id])
    assert let_in(grant(inputs_at_once=5)).admission is Admission.AT_ONCE
    connection().zadd("velo:open:shop", {f"{job.id}:5": time.time() - 1})
    assert let_in(grant(inputs_at_once=5)).admission is Admission.ADMITTED
    assert open_inputs() == 1


@pytest.mark.django_db(transaction=True)
def test_what_fails_is_open_until_its_last_attempt(letters: Letters, settings: Any) -> None:
    settings.VELO_RETRY_MAX = 1
    settings.VELO_RETRY_INTERVALS = [0]
    a_job(QUEUE, "bad", grant=grant())
    a_job(QUEUE, "good", grant=grant())
    assert open_inputs() == 2
    work()
    assert letters.calls.count(1) >= 2
    assert open_inputs() == 0


# --- a full queue ---------------------------------------------------------------------------------


def test_in_a_full_queue_each_client_has_its_share(settings: Any) -> None:
    settings.VELO_MAX_QUEUE = 10
    assert let_in(grant("greedy"), 10).admission is Admission.ADMITTED
    assert let_in(grant("greedy")).admission is Admission.NO_ROOM
    assert let_in(None).admission is Admission.NO_ROOM
    modest = grant("modest")
    assert let_in(modest, 4).admission is Admission.ADMITTED
    assert let_in(modest, 1).admission is Admission.ADMITTED
    assert let_in(modest, 1).admission is Admission.NO_ROOM  # it has 5 of 10, as the other may have
    assert let_in(grant("third"), 3).admission is Admission.ADMITTED


def test_while_there_is_room_a_client_may_have_all_of_it(settings: Any) -> None:
    settings.VELO_MAX_QUEUE = 10
    assert let_in(grant("modest")).admission is Admission.ADMITTED
    for _ in range(9):
        assert let_in(grant("greedy")).admission is Admission.ADMITTED
    assert let_in(grant("greedy")).admission is Admission.NO_ROOM


# --- background -----------------------------------------------------------------------------------


def test_background_inputs_wait_behind_interactive_inputs_and_not_for_ever() -> None:
    for number in range(30):
        a_job(LABEL, f"b{number}", lane=Lane.BACKGROUND)
    for number in range(60):
        a_job(LABEL, f"i{number}")
    taken = []
    for _ in range(60):
        [claimed] = claim("w", LABEL, limit=1)
        taken.append(claimed.questions()[0].input)
        claims.finish(connection(), "w", [claims.Answer(claimed, 1, 60)], 0.1)
    background = [place for place, text in enumerate(taken) if text.startswith("b")]
    assert len(background) == 3  # one in twenty
    assert [taken[place] for place in background] == ["b0", "b1", "b2"]


# --- a request ------------------------------------------------------------------------------------


@pytest.fixture
def one_model(redis: None) -> None:
    publish(plan_of(model("a", "1", "2", active="1")), {"w": [LABEL]})


def asking(caller: Caller, inputs: int) -> int:
    with callers.acting_for(caller):
        return len(ask(A, ["x"] * inputs, 10.0))


@pytest.mark.usefixtures("one_model")
@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"inputs_per_minute": 5}, "may send 5 inputs a minute. It may send 2 now; this request"),
        ({"inputs_at_once": 2}, "has 3. Send at most 2 inputs in a request."),
    ],
)
def test_a_refusal_says_which_limit_and_what_to_do(limits: Any, says: str) -> None:
    with answering([LABEL], lambda label, data: data):
        if "inputs_per_minute" in limits:
            asking(Caller(grant=grant(**limits)), 3)
        with pytest.raises(RateLimited) as raised:
            asking(Caller(grant=grant(**limits)), 3)
    assert says in str(raised.value.detail)
    retried = "inputs_per_minute" in limits
    assert ("Retry-After" in raised.value.headers) == retried
    assert ("X-Should-Retry" in raised.value.headers) != retried
    assert waiting(LABEL) == []


@pytest.mark.usefixtures("one_model")
def test_the_headers_are_those_of_the_draft() -> None:
    caller = Caller("id", grant(inputs_per_minute=600, tokens_per_day=1000))
    with answering([LABEL], lambda label, data: data):
        asking(caller, 3)
    headers = caller.headers
    assert headers["RateLimit-Policy"] == '"inputs";q=600;w=60, "tokens";q=1000;w=86400'
    assert headers["RateLimit"].startswith('"inputs";r=597;t=1, "tokens";r=1000;t=')
    assert Caller("id").headers == {"X-Request-Id": "id"}


@pytest.mark.usefixtures("one_model")
def test_a_request_that_is_asked_elsewhere_is_charged_once() -> None:
    planned = model("a", "1", "2", follows_environment=True)
    publish(plan_of(planned), {"w": [LABEL]})
    caller = Caller(grant=grant(inputs_per_minute=3))
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(asking(caller, 3)))
    thread.start()
    eventually(lambda: len(waiting(LABEL)) == 3)
    publish(plan_of(planned), {"w": [LABEL], "w2": ["a@2"]})
    leave("w")
    with answering(["a@2"], lambda label, data: data):
        thread.join(30)
    assert found == [3]


@pytest.mark.usefixtures("one_model")
def test_without_room_a_client_hears_of_the_queue(settings: Any) -> None:
    settings.VELO_MAX_QUEUE = 1
    a_job(LABEL, grant=grant())
    with pytest.raises(QueueFull, match="over the limit of 1"):
        asking(Caller(grant=grant()), 2)


@pytest.mark.usefixtures("one_model")
def test_a_limit_says_nothing_of_the_queue_and_a_full_queue_does(settings: Any) -> None:
    """While the queue is full the gate refuses others at once: not when one client is limited."""
    settings.VELO_MAX_QUEUE = 1
    limited, full = Caller(grant=grant(inputs_at_once=1)), Caller()
    with pytest.raises(RateLimited):
        asking(limited, 2)
    assert not limited.found_full
    a_job(LABEL)
    with pytest.raises(QueueFull):
        asking(full, 1)
    assert full.found_full
    gate = Gate()
    visit = gate.enter("/transform", "address", 5)
    assert isinstance(visit, Visit)
    gate.leave(visit, full.found_full)
    assert isinstance(gate.enter("/transform", "address", 5), Refusal)
    assert isinstance(gate.enter("/transform", "shop", 5, has_grant=True), Visit)
    gate = Gate()
    visit = gate.enter("/transform", "address", 5)
    assert isinstance(visit, Visit)
    gate.leave(visit, limited.found_full)
    assert isinstance(gate.enter("/transform", "address", 5), Visit)


@pytest.mark.usefixtures("one_model")
def test_a_background_clients_inputs_are_in_the_background() -> None:
    caller = Caller(grant=grant(background=True))
    thread = threading.Thread(target=asking, args=(caller, 3))
    thread.start()
    key = f"rq:queue:{LABEL}:background"
    eventually(lambda: connection().llen(key) == 3)
    for job_id in connection().lrange(key, 0, -1):
        assert connection().hget(f"rq:job:{job_id.decode()}", "client") == b"shop"
    for job_id in connection().lrange(key, 0, -1):
        connection().rpush(f"rq:queue:{LABEL}", job_id)
    with answering([LABEL], lambda label, data: data):
        thread.join(30)
    assert not thread.is_alive()


# --- usage ----------------------------------------------------------------------------------------


def kept() -> dict[tuple[str, str], tuple[int, int]]:
    bookkeeping.write()
    return {(row.client, row.model): (row.inputs, row.tokens) for row in Usage.objects.all()}


@pytest.mark.django_db(transaction=True)
class TestUsage:
    def test_is_counted_by_client_model_and_day(self) -> None:
        let_in(grant(), 3)
        let_in(None)
        let_in(grant("other"))
        finish((3, 30), (1, 5), (1, 7))
        assert kept() == {("shop", "a"): (3, 30), ("", "a"): (1, 5), ("other", "a"): (1, 7)}
        let_in(grant())
        finish((1, 2))
        assert kept()["shop", "a"] == (4, 32)
        assert {row.day for row in Usage.objects.all()} == {datetime.now(UTC).date()}

    def test_is_not_counted_for_what_is_no_answer(self) -> None:
        let_in(grant())
        found = claim("w", LABEL)
        refusal = claims.Answer(found[0], {"refused": {}}, 60)
        assert claims.finish(connection(), "w", [refusal], 0.1) == [claims.WRITTEN]
        let_in(grant())
        [late] = claim("w", LABEL)
        claims.put_back(connection(), "w", [late.execution_key])
        answer = claims.Answer(late, 1, 60, 1, 5, LABEL)
        assert claims.finish(connection(), "w", [answer], 0.1) == [claims.FENCED]
        assert kept() == {}

    def test_a_worker_counts_what_its_model_read(self, letters: Letters) -> None:
        a_job(QUEUE, "four", grant=grant())
        job = NewJob(QUEUE, ["one", "fifteen"], "d", 30, several=True, grant=grant())
        with admitted(QUEUE):
            broker.enqueue(QUEUE, [job])
        work()
        assert kept() == {("shop", "letters"): (3, 4 + 3 + 7)}

    def test_is_kept_for_400_days(self) -> None:
        today = timezone.now().date()
        for age in (399, 402):
            Usage.objects.create(client="shop", model="a", day=today - timedelta(days=age))
        prune()
        assert [row.day for row in Usage.objects.all()] == [today - timedelta(days=399)]

    def test_can_be_had_as_csv(self, admin_client: Browser) -> None:
        row = Usage.objects.create(
            client="shop", model="a", day=date(2026, 1, 2), inputs=3, tokens=40
        )
        text = usage.as_csv(Usage.objects.all())
        assert text == "day,client,model,inputs,tokens\r\n2026-01-02,shop,a,3,40\r\n"
        chosen = {"action": "as_csv", "_selected_action": [str(row.pk)]}
        answer = admin_client.post("/admin/workers/usage/", chosen)
        assert answer.content.decode() == text

"""/metrics in Prometheus' text form: the same whichever process answers, and true."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client as Browser
from prometheus_client.parser import text_string_to_metric_families
from redis.exceptions import ConnectionError as RedisAway

from inference import timing
from tests.answering import answering, model, plan_of, publish
from tests.jobs import claim, lease_lasts
from tests.jobs import waiting as a_job
from tests.letters import Letters, work
from tests.stack import ROOT, Stack, stack
from tests.waiting import eventually
from workers.broker.connection import connection
from workers.broker.names import QUEUE, Lane
from workers.broker.rescue import rescue
from workers.metrics import counters, prometheus
from workers.metrics.counters import Counters
from workers.metrics.latency import Recorder

DEPLOY = ROOT / "deploy"
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
LABEL = "a@1"
A1 = {"model": "a", "version": "1"}


def read(text: str) -> Samples:
    """Every sample; the parser refuses what isn't the format."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


def scrape() -> Samples:
    timing.timings().recorder.flush()
    answer = Browser().get("/metrics")
    assert answer.status_code == 200
    assert answer["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return read(answer.content.decode())


@pytest.mark.usefixtures("redis")
@pytest.mark.django_db(transaction=True)
class TestInTheProcess:
    @pytest.fixture(autouse=True)
    def one_model(self, redis: None) -> None:
        timing.timings().recorder.counters.take()  # of other tests
        publish(plan_of(model("a", "1", active="1")), {"w": [LABEL]})

    def post(self, path: str, body: Any) -> int:
        browser = Browser()
        answer = browser.post(path, json.dumps(body), content_type="application/json")
        return answer.status_code

    def test_requests_by_endpoint_version_and_status(self) -> None:
        with answering([LABEL]):
            assert self.post("/transform", "text") == 200
            assert self.post("/v1/embeddings", {"input": "text"}) == 200
            assert self.post("/v1/embeddings", {"input": "text"}) == 200
            assert self.post("/embed", {"inputs": ""}) == 422
            assert self.post("/models/b/transform", "text") == 404
        found = scrape()
        name = "velo_requests_total"
        assert value(found, name, endpoint="velo", status="200", **A1) == 1
        assert value(found, name, endpoint="openai", status="200", **A1) == 2
        nobody = {"model": "", "version": ""}
        assert value(found, name, endpoint="tei", status="422", **nobody) == 1
        assert value(found, name, endpoint="velo", status="404", **nobody) == 1
        assert value(found, "velo_errors_total", reason="unknown_model") == 1
        assert value(found, "velo_errors_total", reason="blank_input") == 1
        assert value(found, "velo_request_seconds_count", **A1) == 3
        assert value(found, "velo_request_seconds_bucket", le="+Inf", **A1) == 3

    def test_what_waits_and_is_in_hand(self) -> None:
        for number in range(3):
            a_job(LABEL, str(number))
        a_job(LABEL, "later", lane=Lane.BACKGROUND)
        claim("w", LABEL, limit=1)
        found = scrape()
        assert value(found, "velo_waiting_inputs", lane="interactive", **A1) == 2
        assert value(found, "velo_waiting_inputs", lane="background", **A1) == 1
        assert 0 < value(found, "velo_oldest_input_seconds", lane="interactive", **A1) < 60
        assert value(found, "velo_jobs_in_hand", **A1) == 1
        assert value(found, "velo_serving_workers", **A1) == 1
        stat = Browser().get("/stat").json()
        assert stat["queue_length"] in (0, 2)  # of live workers' versions: no row is written here

    def test_the_dead_the_rescued_and_the_poisonous(self, settings: Any) -> None:
        a_job(LABEL, "x")
        for number in range(settings.VELO_MAX_CRASHES):
            claim(f"w{number}", LABEL)
            lease_lasts(f"w{number}", -0.1, LABEL)
            assert len(rescue()) == 1
        found = scrape()
        assert value(found, "velo_lost_workers_total") == settings.VELO_MAX_CRASHES
        assert value(found, "velo_rescued_jobs_total") == settings.VELO_MAX_CRASHES - 1
        assert value(found, "velo_poisonous_jobs_total") == 1

    def test_what_workers_do(self, letters: Letters, settings: Any) -> None:
        settings.VELO_RETRY_MAX = 0
        for text in ("one", "four", "bad"):
            a_job(QUEUE, text)
        work()
        found = scrape()
        l1 = {"model": "letters", "version": "1"}
        assert value(found, "velo_inputs_total", **l1) == 2
        assert value(found, "velo_tokens_total", **l1) == 7
        assert value(found, "velo_failed_attempts_total", **l1) == 1
        assert value(found, "velo_batch_inputs_count", **l1) >= 1
        assert value(found, "velo_queue_seconds_count", **l1) == 2
        assert value(found, "velo_model_seconds_count", **l1) >= 2

    def test_it_says_that_redis_is_away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def away(*args: Any) -> None:
            raise RedisAway

        monkeypatch.setattr(connection(), "hgetall", away)
        found = read(prometheus.exposition().decode())
        assert value(found, "velo_redis_up") == 0
        assert value(found, "velo_database_up") == 1
        assert ("velo_lost_workers_total", ()) not in found

    def test_off_is_not_found_and_a_key_is_needed_where_keys_are(self, settings: Any) -> None:
        settings.VELO_AUTH = "keys"
        assert Browser().get("/metrics").status_code == 401
        settings.VELO_METRICS = "open"
        assert Browser().get("/metrics").status_code == 200
        settings.VELO_METRICS = "off"
        settings.VELO_AUTH = "open"
        assert Browser().get("/metrics").status_code == 404

    def test_a_packet_that_is_sent_twice_counts_once(self) -> None:
        recorder = Recorder()
        recorder.counters.add(counters.ERRORS, "queue_full", by=3)
        sender = recorder._sender
        recorder.flush()
        sender._unsent = None
        number = sender._number
        recorder.counters.add(counters.ERRORS, "queue_full")
        sender._number = number - 1  # as if the answer to the last packet had been lost
        recorder.flush()
        assert value(scrape(), "velo_errors_total", reason="queue_full") == 3


def test_a_histogram_is_cumulative_and_its_bounds_belong_to_their_buckets() -> None:
    counted = Counters()
    counted.observe(counters.BATCH_INPUTS, LABEL, values=[1, 2, 3, 4, 500])
    found = counted.take()
    name = counters.BATCH_INPUTS.name
    assert found == {
        (name, LABEL, "1.0"): 1,
        (name, LABEL, "2.0"): 1,
        (name, LABEL, "4.0"): 2,
        (name, LABEL, "+Inf"): 1,
        (name, LABEL, "sum"): 510,
    }
    family = prometheus._histogram(
        counters.BATCH_INPUTS, {words[1:]: number for words, number in found.items()}
    )
    counts = {
        sample.labels["le"]: sample.value
        for sample in family.samples
        if sample.name.endswith("_bucket")
    }
    assert counts["1.0"] == 1
    assert counts["2.0"] == 2
    assert counts["4.0"] == counts["128.0"] == 4
    assert counts["+Inf"] == 5
    assert counted.take() == {}


EXPRESSIONS = {
    "the dashboard": re.findall(r'"expr": "(.*)"', (DEPLOY / "grafana/velo.json").read_text()),
    "the alerts": re.findall(
        r"expr:([\s\S]*?)\n        (?:for|labels)", (DEPLOY / "prometheus/alerts.yml").read_text()
    ),
}


@pytest.mark.parametrize("where", EXPRESSIONS)
@pytest.mark.usefixtures("redis")
@pytest.mark.django_db
def test_what_is_deployed_asks_for_metrics_that_are_there(where: str) -> None:
    families = {
        family.name: family
        for family in text_string_to_metric_families(prometheus.exposition().decode())
    }
    assert len(EXPRESSIONS[where]) >= 8
    for expression in EXPRESSIONS[where]:
        names = re.findall(r"velo_\w+", expression)
        assert names, expression
        for name in names:
            family = re.sub(r"_(total|bucket|sum|count)$", "", name)
            assert family in families, name
            is_histogram = bool(re.search(r"_(bucket|sum|count)$", name))
            assert (families[family].type == "histogram") == is_histogram, name
            assert (families[family].type == "counter") == name.endswith("_total"), name


@pytest.fixture(scope="module")
def velo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(
        tmp_path_factory.mktemp("velo"),
        workers=2,
        VELO_PREDICTOR="sleep",
        VELO_SLEEP_MS=1,
        VELO_WEB_PROCESSES=2,
    ) as running:
        yield running


def test_two_web_processes_and_two_workers_say_the_same(velo: Stack) -> None:
    for _ in range(40):
        assert velo.transform("text").status == 200

    def counted() -> set[float]:
        answers = [read(velo.get("/metrics").body.decode()) for _ in range(8)]
        return {
            sum(number for key, number in one.items() if key[0] == name)
            for one in answers
            for name in ("velo_requests_total", "velo_inputs_total", "velo_request_seconds_count")
        }

    eventually(lambda: counted() == {40.0})
    [found] = [read(velo.get("/metrics").body.decode())]
    states = {dict(key[1])["state"]: n for key, n in found.items() if key[0] == "velo_workers"}
    assert states["idle"] + states["busy"] == 2
    assert value(found, "velo_database_up") == value(found, "velo_redis_up") == 1

"""A vector crosses Redis as float32 and is rendered once; what reads it gets what it always got."""

import json
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy
import orjson
import pytest
from django.test import Client
from rq.job import Job
from rq.results import Result

from inference import dispatch
from inference.asking import new_job
from inference.choice import Target
from inference.codecs import rendered
from tests.answering import Packing, answering, arguments, model, plan_of, publish, waiting
from tests.jobs import claim, enqueue, live
from tests.letters import Letters, work
from tests.waiting import eventually
from workers import jobs, predictors
from workers.broker import claims, inspecting
from workers.broker import enqueue as broker
from workers.broker.claims import Answer
from workers.broker.connection import connection, queue
from workers.broker.wire import MARK, JSONSerializer, pack, unpack
from workers.catalog.plan import Share
from workers.predictors import Spec

DIMENSIONS = 384
SENTENCE = "The old ferry leaves the island twice a day in summer, and once when the sea is calm. "
TINY = 6.3120046e-6  # orjson writes it otherwise as a float32 than as a number of Python's


def vector(text: str = "") -> Any:
    found = numpy.random.default_rng(len(text)).standard_normal(DIMENSIONS).astype(numpy.float32)
    found /= numpy.linalg.norm(found)
    found[7] = TINY
    return found


def as_before(array: Any) -> list[float]:
    """What a reader got when a worker wrote JSON."""
    found: list[float] = orjson.loads(orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY))
    return found


def prediction(output: Any, label: str = "all-MiniLM-L6-v2@832723122d07") -> dict[str, Any]:
    return {
        "output": output,
        "model_version": label,
        "worker": "8d5d1f5f0f5c4f6fb1f0d2a4f1e7a9c3",
        "tokens": 7,
        "truncated": False,
        "queue_time": 0.001235,
        "model_time": 0.010133,
    }


# --- the form -----------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["m@1", "m@10", "m@100", "m@1000"])
def test_a_packed_answer_says_what_it_is(label: str) -> None:
    packed = pack(prediction(vector(), label))
    line, _, numbers = packed.partition(b"\n")
    assert line[:1] == MARK
    assert json.loads(line[1:])[1] == {"output": [DIMENSIONS]}
    assert numbers == vector().tobytes()
    assert (len(line) + 1) % 4 == 0  # so that the numbers are aligned in memory
    found = unpack(packed)
    assert found["output"].dtype == numpy.float32
    assert (found["output"] == vector()).all()
    assert found | {"output": None} == prediction(None, label)


def test_rq_and_the_admin_read_lists_as_before() -> None:
    value = prediction(vector())
    assert JSONSerializer.loads(pack(value)) == value | {"output": as_before(vector())}


def test_several_arrays_of_any_shape() -> None:
    value = {
        "a": numpy.arange(6, dtype=numpy.float32).reshape(2, 3),
        "none": numpy.zeros((0, 4), numpy.float32),
        "turned": numpy.arange(4, dtype=numpy.float32).reshape(2, 2).T,
        "text": "é\n",
    }
    assert JSONSerializer.loads(pack(value)) == {
        "a": [[0, 1, 2], [3, 4, 5]],
        "none": [],
        "turned": [[0, 2], [1, 3]],
        "text": "é\n",
    }


@pytest.mark.parametrize(
    "value",
    [
        *({"output": [0.5]}, [1, 2], None, "text", {"output": {"deep": numpy.float32(0.5)}}),
        {"output": numpy.array([0.5], numpy.float64)},
        {"output": [numpy.array([0.5], numpy.float32)]},
    ],
)
def test_everything_else_stays_json(value: Any) -> None:
    assert pack(value) == JSONSerializer.dumps(value)
    assert unpack(pack(value)) == JSONSerializer.loads(pack(value)) == orjson.loads(pack(value))


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\xff", b"\xff\n", b"\xff5\n", b"\xff[5,5]\n", b'\xff[{},{"a":5}]\n1234'),
        *(b'\xff[{},{"a":["b"]}]\n', b'\xff[{},{"a":[1]}]\n123', b'\xff[{},{"a":[1]}]\n12345'),
        *(b'\xff[{},{"a":[-1]}]\n1234', b'\xff[[],{"a":[1]}]\n1234', b"\xff[{},{},{}]\n"),
    ],
)
def test_what_is_not_packed_is_a_value_error(data: bytes) -> None:
    for read in (unpack, JSONSerializer.loads):
        with pytest.raises(ValueError):  # noqa: PT011 - each has its own words
            read(data)


@pytest.mark.parametrize("exponent", range(-45, 39))
def test_numbers_are_rendered_as_they_always_were(exponent: int) -> None:
    digits = numpy.array([1, -1.5, 1.2345678, 3.3333, 9.9], numpy.float64)
    with numpy.errstate(over="ignore"):
        numbers = (digits * 10.0**exponent).astype(numpy.float32)
    numbers = numbers[numpy.isfinite(numbers)]
    assert rendered(numbers) == orjson.dumps(as_before(numbers))
    assert rendered({"data": [numbers]}) == orjson.dumps({"data": [as_before(numbers)]})


# --- through Redis ------------------------------------------------------------------------------


class Vectors(Letters):
    """Its answers are vectors, as a real model's are."""

    spec = Spec("vectors", "1", "custom")

    def predict(self, batch: Any) -> Any:
        return [vector(one.ids) for one in batch]


@pytest.fixture
def vectors(redis: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    made = Vectors()
    monkeypatch.setattr(predictors, "declared", lambda: made.spec)
    monkeypatch.setattr(predictors, "prepare", lambda spec: None)
    monkeypatch.setattr(predictors, "load", lambda spec, threads: made)
    yield
    jobs.install(None)


def written(job_id: str) -> bytes:
    """The answer, as it lies in Redis."""
    [(_, entry)] = connection().xrange(Result.get_key(job_id))
    return b64decode(entry[b"return_value"], validate=True)


@pytest.mark.usefixtures("vectors")
@pytest.mark.django_db(transaction=True)
def test_rqs_own_reader_gets_the_list() -> None:
    job = enqueue("a text")
    work()
    assert written(job.id).startswith(MARK)
    assert written(job.id).endswith(vector("a text").tobytes())
    value = job.return_value(refresh=True)
    assert value is not None
    assert value["output"] == as_before(vector("a text"))
    shown = inspecting.job("default", job.id)
    assert shown is not None
    assert shown.attempts[0].answer == value


@pytest.mark.usefixtures("vectors")
@pytest.mark.django_db(transaction=True)
def test_a_reader_that_does_not_ask_for_numbers_gets_json() -> None:
    """A web process of an older version, or RQ's own tools with RQ's own serializer."""
    job = queue().enqueue_call(jobs.INFER, args=("a text",))
    work()
    assert orjson.loads(written(job.id))["output"] == as_before(vector("a text"))


def kept(text: str) -> tuple[int, int]:
    """Bytes of a waiting job, and of all that a finished one leaves in Redis."""
    connection().flushall()
    label, worker = "all-MiniLM-L6-v2@832723122d07", prediction(None)["worker"]
    many = 100  # so that a list of jobs counts as a part of a long one
    claimed = []
    for number in range(many):
        job = new_job(label, text, 30)
        live(worker, label)
        assert broker.enqueue(label, [job]).admitted
        if not number:
            waits = connection().memory_usage(Job.key_for(job.id), samples=0)
        claimed += claim(worker, label)
    answers = [Answer(one, prediction(vector()), 60) for one in claimed]
    claims.finish(connection(), worker, answers, 0.1)
    own = (Job.key_for(claimed[-1].job_id), Result.get_key(claimed[-1].job_id))
    stays = sum(connection().memory_usage(key, samples=0) for key in own)
    listed = connection().memory_usage(f"rq:finished:{label}", samples=0)
    return waits, stays + listed // many


@pytest.mark.usefixtures("redis")
@pytest.mark.parametrize(
    ("text", "most_waiting", "most_kept"), [("Hello", 512, 3584), (2 * SENTENCE, 1088, 4352)]
)
def test_an_answer_takes_few_bytes(text: str, most_waiting: int, most_kept: int) -> None:
    waits, stays = kept(text)
    assert waits <= most_waiting
    assert stays <= most_kept


@pytest.mark.usefixtures("redis")
def test_an_answer_after_a_retry_is_one_entry_more() -> None:
    job = enqueue("text")
    connection().xadd(Result.get_key(job.id), {"type": Result.Type.RETRIED.value})
    [claimed] = claim("w")
    answer = Answer(claimed, prediction(vector()), 60)
    assert claims.finish(connection(), "w", [answer], 0.1) == [claims.WRITTEN]
    assert [one.type for one in job.results()] == [Result.Type.SUCCESSFUL, Result.Type.RETRIED]


# --- over HTTP ----------------------------------------------------------------------------------


def post(text: str) -> bytes:
    answer = Client().post("/transform", json.dumps(text), content_type="application/json")
    assert answer.status_code == 200, answer.content
    return answer.content


@pytest.fixture
def one_model(redis: None) -> None:
    publish(plan_of(model("a", "1", active="1")), {"w": ["a@1"]})


@pytest.mark.usefixtures("one_model")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("serializer", [Packing, JSONSerializer])
def test_callers_get_the_same_bytes_from_workers_of_either_version(serializer: Any) -> None:
    with answering(["a@1"], lambda label, data: vector(data), serializer):
        for text in ("one", "three"):
            assert post(text) == orjson.dumps(as_before(vector(text)))
            assert b"6.3120046e-6" in post(text)


@pytest.mark.usefixtures("one_model")
@pytest.mark.django_db(transaction=True)
def test_no_list_is_made_of_a_vector_on_its_way() -> None:
    with answering(["a@1"], lambda label, data: vector(data)):
        output = dispatch.transform(Target(), "a text", 30).output
    assert isinstance(output, numpy.ndarray)
    assert not output.flags.owndata
    assert output.flags.aligned


@pytest.mark.usefixtures("vectors")
@pytest.mark.django_db(transaction=True)
def test_a_worker_answers_over_http() -> None:
    label = Vectors.spec.label
    publish(plan_of(model("vectors", "1", active="1", kind="custom")), {"w": [label]})
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(post, "a text")
        eventually(lambda: waiting(label) or answer.done())
        work()
        assert answer.result(30) == orjson.dumps(as_before(vector("a text")))


@pytest.mark.usefixtures("redis")
@pytest.mark.django_db(transaction=True)
def test_a_shadow_gets_the_numbers_that_the_caller_got() -> None:
    planned = model("a", "1", "2", active="1", shadow=Share("2", 100))
    publish(plan_of(planned), {"w": ["a@1", "a@2"]})
    with answering(["a@1"], lambda label, data: vector(data)):
        post("a text")
    eventually(lambda: waiting("a@2"))
    [_, compare] = arguments(waiting("a@2")[0])
    assert compare == {"to": "a@1", "output": as_before(vector("a text"))}

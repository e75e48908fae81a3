"""The Open Inference Protocol's requests, answers and errors; the answers are written by hand."""

import gzip
import json
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy
import orjson
import pytest
from django.conf import settings as configured
from django.test import Client
from rq.job import Job

from inference import dispatch, errors
from inference.errors import APIError
from inference.gate import Gate, Refusal
from inference.protocols import oip
from inference.protocols.forms import form
from inference.protocols.oip import signatures
from tests.answering import answering, leave, lose, model, plan_of, publish, version, waiting, write
from tests.test_openai_is_spoken import kinds_of_errors
from tests.waiting import eventually
from workers.broker.connection import connection
from workers.broker.wire import JSONSerializer
from workers.catalog.plan import Plan

INFER = "/v2/models/a/infer"
LENGTH = "Inference-Header-Content-Length"
BINARY = "application/octet-stream"
PATHS = ["/v2", "/v2/health/live", "/v2/models/a", INFER, "/v2/nothing", "/v2/", "/v2/rerank/x"]

pytestmark = pytest.mark.usefixtures("redis")


def the_plan() -> Plan:
    return plan_of(
        model("a", "1", "2", active="1"),
        model("judge", "1", active="1", kind="classify"),
        model("ranker", "1", active="1", kind="rerank"),
        model("names", "1", active="1", kind="ner"),
        model("own", "1", active="1", kind="custom"),
    )


@pytest.fixture(autouse=True)
def models(redis: None) -> None:
    workers = {"v": ["a@1"], "w": ["judge@1"], "x": ["ranker@1"], "y": ["names@1"], "z": ["own@1"]}
    publish(the_plan(), workers)


def by_hand(label: str, data: Any) -> Any:
    """A vector with the text's length, a judgement, or the longer the better."""
    if label.startswith("a@"):
        return numpy.array([len(data), 0.5], numpy.float32)
    if label == "judge@1":
        good = {"label": "good", "score": 0.75}, {"label": "bad", "score": 0.25}
        return (
            list(good) if "good" in data else [good[1] | {"score": 0.9}, good[0] | {"score": 0.1}]
        )
    found = [{"index": place, "score": len(text) / 16} for place, text in enumerate(data["texts"])]
    return sorted(found, key=lambda one: -one["score"])


def tensor(name: str, *data: Any, **more: Any) -> dict[str, Any]:
    known = {"name": name, "shape": [len(data)], "datatype": "BYTES", "data": list(data)}
    return {name: value for name, value in (known | more).items() if value is not ...}


def asking(*data: Any, **more: Any) -> dict[str, Any]:
    return {"inputs": [tensor("text", *data, **more)]}


def packed(*texts: str | bytes) -> bytes:
    raw = [text if isinstance(text, bytes) else text.encode() for text in texts]
    return b"".join(struct.pack("<I", len(text)) + text for text in raw)


def post(body: Any, path: str = INFER, kind: str = "application/json", **headers: Any) -> Any:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    client = Client(raise_request_exception=False)
    with answering(["a@1", "a@2", "judge@1", "ranker@1"], by_hand):
        return client.post(path, content, kind, headers=headers)


def post_binary(body: Any, tensors: bytes, path: str = INFER, **headers: Any) -> Any:
    content = orjson.dumps(body)
    return post(content + tensors, path, BINARY, **{LENGTH: str(len(content))} | headers)


def answered(answer: Any) -> Any:
    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"] == "application/json"
    assert LENGTH not in answer
    return answer.json()


def refused(answer: Any) -> tuple[int, str]:
    assert answer["Content-Type"] == "application/json"
    found = answer.json()
    assert list(found) == ["error"]
    return answer.status_code, found["error"]


def test_the_server_says_its_name_and_version() -> None:
    version = configured.SPECTACULAR_SETTINGS["VERSION"]
    found = answered(Client().get("/v2"))
    assert found == {"name": "velo", "version": version, "extensions": ["binary_tensor_data"]}


def test_texts_are_embedded_in_their_order() -> None:
    found = answered(post({"id": "7"} | asking("one", "three")))
    assert found == {
        "model_name": "a",
        "model_version": "1",
        "id": "7",
        "outputs": [
            {"name": "embedding", "datatype": "FP32", "shape": [2, 2], "data": [3, 0.5, 5, 0.5]}
        ],
    }


@pytest.mark.parametrize(
    "body",
    [
        asking("one", "three", shape=[2, 1]),
        asking(["one"], ["three"], shape=[2, 1]),
        asking(["one"], ["three"]),
        asking("one", "three", parameters=None, further=1) | {"id": None, "outputs": None},
        asking("one", "three") | {"outputs": [], "parameters": {"priority": 3}},
        asking("one", "three") | {"outputs": [{"name": "embedding", "parameters": None}]},
    ],
)
def test_shapes_and_what_clients_send_along(body: Any) -> None:
    found = answered(post(body))
    assert "id" not in found
    assert found["outputs"][0]["data"] == [3, 0.5, 5, 0.5]


@pytest.mark.parametrize("path", [INFER, "/v2/models/a@1/infer", "/v2/models/a/versions/1/infer"])
def test_a_version_is_named_in_the_address(path: str) -> None:
    answer = post(asking("one"), path)
    assert answered(answer)["model_version"] == "1"
    assert answer["X-Velo-Model-Version"] == "a@1"
    assert answer["X-Velo-Model"] == "a"
    assert "total;dur=" in answer["Server-Timing"]


def test_a_classifier_gives_scores_and_the_best_label() -> None:
    found = answered(post(asking("so good", "so so"), "/v2/models/judge/infer"))
    scores, label = found["outputs"]
    assert scores == {
        "name": "scores",
        "datatype": "FP32",
        "shape": [2, 2],
        "parameters": {"labels": ["bad", "good"]},
        "data": pytest.approx([0.25, 0.75, 0.9, 0.1]),
    }
    assert label == {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["good", "bad"]}


def test_columns_have_the_order_of_the_configuration_once_it_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("inference.protocols.oip.answers.labels", lambda version: ["good", "bad"])
    [scores, _] = answered(post(asking("so good"), "/v2/models/judge/infer"))["outputs"]
    assert scores["parameters"] == {"labels": ["good", "bad"]}
    assert scores["data"] == [0.75, 0.25]
    monkeypatch.setattr("inference.protocols.oip.answers.labels", lambda version: ["other"])
    [scores, _] = answered(post(asking("so good"), "/v2/models/judge/infer"))["outputs"]
    assert scores["parameters"] == {"labels": ["bad", "good"]}


def ranking(query: str, *texts: Any) -> dict[str, Any]:
    return {"inputs": [tensor("texts", *texts), tensor("query", query)]}


def test_scores_of_a_ranking_have_the_order_of_the_texts(settings: Any) -> None:
    settings.VELO_BATCH_MAX = 4
    texts = ["a" * (1 + number % 7) for number in range(30)]
    [score] = answered(post(ranking("q", *texts), "/v2/models/ranker/infer"))["outputs"]
    assert (score["name"], score["datatype"], score["shape"]) == ("score", "FP32", [30])
    assert score["data"] == [len(text) / 16 for text in texts]


def test_scores_of_a_ranking_are_between_0_and_1_whatever_the_version_gives() -> None:
    body = orjson.dumps(ranking("q", "a"))
    with ThreadPoolExecutor(1) as aside:
        path = "/v2/models/ranker/infer"
        request = aside.submit(Client().post, path, body, "application/json")
        [job_id] = eventually(lambda: waiting("ranker@1"))
        job = Job.fetch(job_id, connection(), JSONSerializer)
        assert job.kwargs == {"parameters": {"raw_scores": False}}
        value = {"output": [{"index": 0, "score": 0.5}], "model_version": "ranker@1"}
        value |= {"worker": "w", "tokens": 1, "truncated": False}
        write(job_id, value | {"queue_time": 0.0, "model_time": 0.0})
        assert request.result().json()["outputs"][0]["data"] == [0.5]


def test_outputs_are_chosen() -> None:
    body = asking("so good") | {"outputs": [{"name": "label"}]}
    [label] = answered(post(body, "/v2/models/judge/infer"))["outputs"]
    assert label["name"] == "label"
    body["outputs"] = [{"name": "label"}, {"name": "scores"}]
    found = answered(post(body, "/v2/models/judge/infer"))["outputs"]
    assert [one["name"] for one in found] == ["label", "scores"]


def split(answer: Any) -> tuple[Any, bytes]:
    """The JSON and the bytes behind it."""
    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"] == BINARY
    length = int(answer[LENGTH])
    return json.loads(answer.content[:length]), answer.content[length:]


def binary(*sizes: int) -> dict[str, Any]:
    [size] = sizes
    return {"data": ..., "parameters": {"binary_data_size": size}}


def test_tensors_may_be_bytes_in_and_out() -> None:
    raw = packed("one", "жук")
    body = asking(*"ab", **binary(len(raw))) | {"parameters": {"binary_data_output": True}}
    for kind in (BINARY, "application/json", ""):
        content = orjson.dumps(body)
        answer = post(content + raw, INFER, kind, **{LENGTH: str(len(content))})
        found, tensors = split(answer)
        assert found["outputs"] == [
            {
                "name": "embedding",
                "datatype": "FP32",
                "shape": [2, 2],
                "parameters": {"binary_data_size": 16},
            }
        ]
        assert numpy.frombuffer(tensors, "<f4").tolist() == [3, 0.5, 3, 0.5]
        assert answer["X-Velo-Model-Version"] == "a@1"


def test_each_output_may_be_bytes_or_json() -> None:
    path = "/v2/models/judge/infer"
    label = {"name": "label", "parameters": {"binary_data": True}}
    found, tensors = split(
        post(asking("good", "x") | {"outputs": [label, {"name": "scores"}]}, path)
    )
    assert found["outputs"][0]["parameters"] == {"binary_data_size": len(tensors)}
    assert "data" not in found["outputs"][0]
    assert tensors == packed("good", "bad")
    assert found["outputs"][1]["data"] == pytest.approx([0.25, 0.75, 0.9, 0.1])
    always = {"parameters": {"binary_data_output": True}}
    label["parameters"] = {"binary_data": False}
    body = asking("good", "x") | always | {"outputs": [label, {"name": "scores"}]}
    found, tensors = split(post(body, path))
    assert found["outputs"][0]["data"] == ["good", "bad"]
    assert found["outputs"][1]["parameters"] == {"labels": ["bad", "good"], "binary_data_size": 16}
    assert numpy.frombuffer(tensors, "<f4").tolist() == pytest.approx([0.25, 0.75, 0.9, 0.1])


def test_two_tensors_one_of_them_bytes() -> None:
    texts, query = packed("a", "aaaa"), packed("q")
    body = {
        "inputs": [
            tensor("texts", *"ab", **binary(len(texts))),
            tensor("query", "q", **binary(len(query))),
        ]
    }
    path = "/v2/models/ranker/infer"
    [score] = answered(post_binary(body, texts + query, path))["outputs"]
    assert score["data"] == [1 / 16, 4 / 16]
    body["inputs"][1] = tensor("query", "q")
    [score] = answered(post_binary(body, texts, path))["outputs"]
    assert score["data"] == [1 / 16, 4 / 16]


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_bodies_may_be_compressed(encoding: str, compress: Any, settings: Any) -> None:
    more = {"Content-Encoding": encoding}
    text = "one" * 100
    body = compress(orjson.dumps(asking(text)))
    assert answered(post(body, **more))["outputs"][0]["data"] == [300, 0.5]
    raw = packed(text)
    content = orjson.dumps(asking("x", **binary(len(raw))))
    more[LENGTH] = str(len(content))
    found = answered(post(compress(content + raw), INFER, BINARY, **more))
    assert found["outputs"][0]["data"] == [300, 0.5]
    settings.VELO_MAX_INPUTS_BYTES = len(content + raw) - 1
    status, says = refused(post(compress(content + raw), INFER, BINARY, **more))
    assert status == 413
    assert "raise VELO_MAX_INPUTS_BYTES" in says


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"not JSON", "Expected JSON"),
        (b"", "The body is empty"),
        ([], "Expected an object"),
        ({}, "inputs: expected an array of tensors; got null"),
        ({"inputs": {}}, "inputs: expected an array of tensors; got an object"),
        ({"inputs": []}, "text: the tensor is missing"),
        ({"inputs": [1]}, "inputs[0]: expected an object"),
        ({"inputs": [{}]}, "inputs[0].name: expected a string; got null"),
        ({"inputs": [tensor("texts", "a")]}, "no such tensor 'texts'. Known: text."),
        ({"inputs": [tensor("text", "a")] * 2}, "text: the tensor is in inputs twice"),
        (asking("a", datatype="FP32"), 'text.datatype: expected "BYTES"; got a string'),
        (asking("a", datatype=...), 'text.datatype: expected "BYTES"; got null'),
        (asking("a", shape=...), "text.shape: expected an array of whole numbers; got null"),
        (asking("a", shape=[-1]), "text.shape: expected an array of whole numbers"),
        (asking("a", shape=[True]), "text.shape: expected an array of whole numbers"),
        (asking("a", shape=[]), "text.shape: expected [n] or [n, 1]; got []"),
        (asking("a", shape=[1, 2]), "text.shape: expected [n] or [n, 1]; got [1, 2]"),
        (asking("a", shape=[1, 1, 1]), "text.shape: expected [n] or [n, 1]"),
        (asking(shape=[0]), "text: the tensor is empty"),
        (asking("a", shape=[2]), "text: by its shape the tensor has 2 elements; it has 1"),
        (asking("a", "b", shape=[1, 1]), "text: by its shape the tensor has 1 elements; it has 2"),
        (asking("a", data=...), "text.data: expected an array of strings; got null"),
        (asking("a", data="a"), "text.data: expected an array of strings; got a string"),
        (asking("a", 5), "text[1]: Expected a JSON string"),
        (asking("a", ["b", "c"]), "text[1]: Expected a JSON string"),
        (asking("a", [["b"]]), "text[1]: Expected a JSON string"),
        (asking("a", "b", " "), "text[2]: The string is empty"),
        (asking("a", parameters=1), "text.parameters: expected an object"),
        (asking("a", **binary(5)), "text: binary_data_size is 5, but 0 bytes are left"),
        (asking("a", **binary(-1)), "text.parameters.binary_data_size: expected a whole number"),
        (asking("a") | {"id": 5}, "id: expected a string"),
        (asking("a") | {"outputs": {}}, "outputs: expected an array of tensors"),
        (asking("a") | {"outputs": [{"name": "x"}]}, "no such tensor 'x'. Known: embedding."),
        (asking("a") | {"parameters": []}, "parameters: expected an object; got an array"),
        (asking("a") | {"parameters": {"binary_data_output": 1}}, "expected true or false"),
        (
            asking("a") | {"outputs": [{"name": "embedding", "parameters": {"binary_data": 0}}]},
            "outputs[0].parameters.binary_data: expected true or false; got a number",
        ),
    ],
)
def test_a_bad_request_names_the_tensor(body: Any, says: str) -> None:
    status, error = refused(post(body))
    assert (status, says in error) == (400, True), error


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"inputs": [tensor("texts", "a")]}, "query: the tensor is missing"),
        (ranking("q", "a", ""), "texts[1]: the string is blank"),
        (ranking("q", "a", 5), "texts[1]: expected a string; got a number"),
        (ranking(" ", "a"), "query: the string is blank"),
        (
            {"inputs": [tensor("query", "q", "r"), tensor("texts", "a")]},
            "query.shape: expected one element; got 2",
        ),
    ],
)
def test_a_bad_request_for_a_ranking(body: Any, says: str) -> None:
    status, error = refused(post(body, "/v2/models/ranker/infer"))
    assert (status, says in error) == (400, True), error


def wrapped(raw: bytes, count: int = 1, size: int | None = None) -> tuple[Any, bytes]:
    return asking(*"x" * count, **binary(len(raw) if size is None else size)), raw


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (wrapped(b"\x01\0\0"), "text[0]: the tensor's bytes end within the element"),
        (wrapped(b"\x05\0\0\0one"), "text[0]: the tensor's bytes end within the element"),
        (wrapped(packed("one") + b"\xff\xff\xff\xff"), "it has more"),
        (wrapped(packed("one") + b"\xff\xff\xff\xff", 2), "text[1]: the tensor's bytes end"),
        (
            wrapped(packed("one", "two")),
            "text: by its shape the tensor has 1 elements; it has more",
        ),
        (wrapped(packed("one"), 2), "by its shape the tensor has 2 elements; it has 1"),
        (wrapped(b""), "by its shape the tensor has 1 elements; it has 0"),
        (wrapped(packed("one", b"\xff"), 2), "text[1]: the text isn't valid UTF-8"),
        (wrapped(packed("one"), 1, 8), "text: binary_data_size is 8, but 7 bytes are left"),
        (wrapped(packed("one") + b"more", 1, 7), "4 bytes are left behind the last tensor"),
        ((asking("one"), b"more"), "4 bytes are left behind the last tensor"),
        (
            (asking("a", parameters={"binary_data_size": 5}), packed("a")),
            "text: the tensor has data and binary_data_size",
        ),
    ],
)
def test_bytes_that_do_not_add_up(request_: tuple[Any, bytes], says: str) -> None:
    status, error = refused(post_binary(*request_))
    assert (status, says in error) == (400, True), error


@pytest.mark.parametrize("length", ["99999", "-1", "1.5", "x", "", "9" * 5000, "٣", "1_0"])
def test_a_length_of_the_json_that_cannot_be(length: str) -> None:
    status, error = refused(post_binary(*wrapped(packed("one")), **{LENGTH: length}))
    assert (status, error.startswith(LENGTH)) == (400, True), error
    assert len(error) < 300


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_length_that_is_wrong_by_one(shift: int) -> None:
    body, raw = wrapped(packed("one"))
    length = str(len(orjson.dumps(body)) + shift)
    status, error = refused(post_binary(body, raw, **{LENGTH: length}))
    assert status == 400
    assert "JSON" in error or "UTF-8" in error


def test_only_json_and_bytes_are_taken() -> None:
    status, error = refused(post(asking("a"), kind="text/plain"))
    assert (status, "Content-Type: application/octet-stream" in error) == (415, True)
    status, error = refused(post(asking("a"), **{"Content-Encoding": "br"}))
    assert (status, "gzip or deflate" in error) == (415, True)


def test_limits_of_a_request(settings: Any) -> None:
    settings.VELO_MAX_INPUTS = 2
    assert answered(post(asking("a", "b")))["outputs"][0]["shape"] == [2, 2]
    for body in (asking("a", "b", "c"), asking("a", shape=[9**9])):
        status, error = refused(post(body))
        assert (status, "raise VELO_MAX_INPUTS" in error) == (413, True)
    status, error = refused(post_binary(*wrapped(packed(*"abc"), 3)))
    assert (status, "text: 3 elements" in error) == (413, True)
    settings.VELO_MAX_INPUT_CHARS = 3
    status, error = refused(post(asking("a", "abcd")))
    assert (status, error.startswith("text[1]: The text has 4 characters")) == (413, True)
    status, error = refused(post(ranking("qq", "a", "ab"), "/v2/models/ranker/infer"))
    assert (status, error.startswith("texts[1]: with the query")) == (413, True)


@pytest.mark.parametrize("name", ["names", "own"])
def test_kinds_without_tensors_name_the_address_that_asks_them(name: str) -> None:
    for path in (f"/v2/models/{name}", f"/v2/models/{name}/versions/1"):
        status, error = refused(Client().get(path))
        assert (status, f"/models/{name}/transform" in error) == (400, True)
        status, error = refused(post(asking("a"), f"{path}/infer"))
        assert (status, f"/models/{name}/transform" in error) == (400, True)
        assert Client().get(f"{path}/ready").status_code == 200


def test_a_model_says_which_tensors_it_has() -> None:
    found = answered(Client().get("/v2/models/a"))
    assert found == {
        "name": "a",
        "versions": ["1", "2"],
        "platform": "velo_embed",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": "embedding", "datatype": "FP32", "shape": [-1, 2]}],
    }
    for path in ("/v2/models/a@2", "/v2/models/a/versions/2", "/v2/models/default"):
        assert answered(Client().get(path)) == found
    found = answered(Client().get("/v2/models/ranker"))
    assert [one["name"] for one in found["inputs"]] == ["query", "texts"]
    assert found["inputs"][0]["shape"] == [1]
    assert found["outputs"] == [{"name": "score", "datatype": "FP32", "shape": [-1]}]
    found = answered(Client().get("/v2/models/judge"))
    shapes = {one["name"]: one["shape"] for one in found["outputs"]}
    assert shapes == {"scores": [-1, -1], "label": [-1]}


def test_the_columns_of_a_classifier_are_counted_once_they_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signatures, "labels", lambda version: ["bad", "good", "so so"])
    found = answered(Client().get("/v2/models/judge"))
    assert found["outputs"][0]["shape"] == [-1, 3]


def test_lengths_of_the_version_that_is_asked_for() -> None:
    versions = {"1": version("b", "1"), "2": version("b", "2", dimensions=5)}
    publish(plan_of(model("b", active="1", versions=versions)), {})
    for path, wanted in (("b", 2), ("b/versions/2", 5), ("b@2", 5)):
        found = answered(Client().get(f"/v2/models/{path}"))
        assert found["outputs"][0]["shape"] == [-1, wanted]


@pytest.mark.parametrize("path", ["b", "b/versions/1", "a/versions/7", "a@7"])
def test_what_is_not_there(path: str) -> None:
    for answer in (
        Client().get(f"/v2/models/{path}"),
        Client().get(f"/v2/models/{path}/ready"),
        post(asking("a"), f"/v2/models/{path}/infer"),
    ):
        status, error = refused(answer)
        assert status == 404
        assert "There is no model 'b'" in error or "has no version '7'" in error


def test_models_and_versions_are_ready_while_a_live_worker_serves_them() -> None:
    def statuses(*paths: str) -> list[int]:
        return [Client().get(f"/v2/{path}").status_code for path in paths]

    ready = "models/a/ready", "models/a/versions/1/ready", "models/a@1/ready", "health/ready"
    assert statuses(*ready) == [200] * 4
    assert answered(Client().get("/v2/models/a/ready")) == {"name": "a", "ready": True}
    answer = Client().get("/v2/models/a/versions/2/ready")
    assert refused(answer)[0] == 503
    assert answer["Retry-After"] == "5"
    lose("v")
    assert statuses(*ready) == [503] * 4
    assert statuses("models/judge/ready", "health/live") == [200, 200]
    leave("v")
    assert statuses(*ready) == [503] * 4
    status, error = refused(Client().get("/v2/health/ready"))
    assert (status, bool(error)) == (503, True)


def test_a_version_without_workers_is_worth_another_try_later() -> None:
    answer = post(asking("a"), "/v2/models/a/versions/2/infer")
    status, error = refused(answer)
    assert (status, answer["Retry-After"]) == (503, "5")
    assert "No worker serves a@2" in error


def test_time_is_over() -> None:
    client = Client(headers={"X-Request-Timeout": "0.2"})
    status, error = refused(client.post(INFER, orjson.dumps(asking("a")), "application/json"))
    assert (status, "No answer within 0.2 s" in error) == (504, True)
    assert refused(post(asking("a"), **{"X-Request-Timeout": "soon"}))[0] == 400


def test_equal_keys_get_the_same_version(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    ask = dispatch.ask
    monkeypatch.setattr(dispatch, "ask", lambda *of: seen.append(of[0]) or ask(*of))
    answered(post(asking("a"), **{"X-Request-Key": "k"}))
    assert [one.key for one in seen] == ["k"]


@pytest.mark.parametrize("path", PATHS)
def test_the_server_refuses_in_the_form_of_the_path(path: str, settings: Any) -> None:
    settings.VELO_CLIENT_MAX = settings.VELO_WEB_THREADS = 1
    gate = Gate()
    gate.enter(INFER, "192.0.2.1", 2)
    refusal = gate.enter(INFER, "192.0.2.1", 2)
    assert isinstance(refusal, Refusal)
    status, headers, body = refusal.said(path)
    assert (status, dict(headers)["Retry-After"]) == (429, "1")
    assert dict(headers)["Content-Type"] == "application/json"
    assert "requests of your address" in json.loads(body)["error"]
    answer = Client().delete(path)
    assert answer.status_code in (404, 405)
    assert refused(answer)[1]


def test_the_protocol_leaves_the_others_their_addresses() -> None:
    for path in ("/v2/rerank", "/v20", "/v1/models", "/transform", "/"):
        assert not oip.speaks(path), path
    answer = Client().post("/v2/rerank", b"{}", "application/json")
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_health_has_its_own_room() -> None:
    gate = Gate()
    assert gate.room("/v2/health/ready") is gate.room("/v2/health/live")
    assert gate.room("/v2/health/live") is gate.room("/health/live")
    assert gate.room(INFER) is gate.room("/transform")
    assert gate.room("/v2/models/a/versions/1/infer") is gate.room("/transform")
    assert gate.room("/v2/models/a") is gate.room("/models")


@pytest.mark.parametrize("kind", sorted(kinds_of_errors(), key=lambda kind: kind.__name__))
def test_every_error_has_a_form(kind: type[APIError]) -> None:
    found = form(INFER)(kind().failure)
    assert found.body == {"error": kind.example}
    assert found.media_type == "application/json"
    assert found.status == (503 if kind is errors.NotServing else kind.status_code)
    harmful = kind in (errors.ModelFailed, errors.Poisonous)
    assert found.headers.get("X-Should-Retry") == ("false" if harmful else None)
    assert ("Retry-After" in found.headers) == (found.status in (429, 503))

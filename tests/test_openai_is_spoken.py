"""OpenAI's form of requests, answers and errors; the answers of the model are written by hand."""

import base64
import json
from typing import Any

import numpy
import orjson
import pytest
from django.test import Client
from sentence_transformers.util.quantization import quantize_embeddings

from inference import errors
from inference.errors import APIError
from inference.gate import Gate, Refusal
from inference.protocols import vectors
from inference.protocols.forms import form
from tests.answering import answering, model, plan_of, publish
from workers.values.version_id import VersionId

EMBEDDINGS = "/v1/embeddings"
VECTOR = numpy.array([0.6, 0.0, 0.8], numpy.float32)

pytestmark = pytest.mark.usefixtures("redis")


@pytest.fixture(autouse=True)
def one_model(redis: None) -> None:
    publish(plan_of(model("a", "1", "2", active="1")), {"w": ["a@1"]})


def post(body: Any, path: str = EMBEDDINGS, **headers: str) -> Any:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return Client(raise_request_exception=False, headers=headers).post(
        path, content, "application/json"
    )


def answered(body: Any, path: str = EMBEDDINGS) -> Any:
    with answering(["a@1", "a@2", "c@1"], lambda label, data: VECTOR):
        answer = post(body, path)
    assert answer.status_code == 200, answer.content
    return answer.json()


def refused(body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    answer = post(body, **headers)
    assert answer["Content-Type"] == "application/json"
    found: dict[str, Any] = answer.json()
    assert list(found) == ["error"]
    assert list(found["error"]) == ["message", "type", "param", "code"]
    return answer.status_code, found["error"]


@pytest.mark.parametrize("path", [EMBEDDINGS, "/embeddings"])
def test_texts_are_embedded_in_their_order(path: str) -> None:
    found = answered({"input": ["one", "two"], "model": "a"}, path)
    assert found["object"] == "list"
    assert found["model"] == "a"
    assert found["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    assert [one["index"] for one in found["data"]] == [0, 1]
    for one in found["data"]:
        assert one["object"] == "embedding"
        assert one["embedding"] == pytest.approx(VECTOR.tolist())


def test_base64_is_the_same_numbers() -> None:
    found = answered({"input": "one", "encoding_format": "base64"})
    raw = base64.b64decode(found["data"][0]["embedding"], validate=True)
    assert numpy.frombuffer(raw, "<f4").tolist() == VECTOR.tolist()


def test_a_shortened_vector_has_the_length_1_again() -> None:
    [one] = answered({"input": "one", "dimensions": 1})["data"]
    assert one["embedding"] == [1.0]
    [one] = answered({"input": "one", "dimensions": 3})["data"]
    assert one["embedding"] == pytest.approx(VECTOR.tolist())


@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [
        ("float", VECTOR.tolist()),
        ("int8", [76, 0, 102]),
        ("uint8", [204, 128, 230]),
        ("ubinary", [0b10100000]),
        ("binary", [0b10100000 - 128]),
    ],
)
def test_a_vector_may_have_smaller_numbers(dtype: str, wanted: list[float]) -> None:
    [one] = answered({"input": "one", "output_dtype": dtype})["data"]
    assert one["embedding"] == pytest.approx(wanted)
    [one] = answered({"input": "one", "output_dtype": dtype, "encoding_format": "base64"})["data"]
    raw = base64.b64decode(one["embedding"], validate=True)
    numbers = {"float": "<f4", "int8": "i1", "binary": "i1"}.get(dtype, "u1")
    assert numpy.frombuffer(raw, numbers).tolist() == pytest.approx(wanted)
    [one] = answered({"input": "one", "output_dtype": "int8", "output_dimension": 1})["data"]
    assert one["embedding"] == [127]


def test_bits_are_as_in_sentence_transformers() -> None:
    found = numpy.random.default_rng(1).normal(size=(5, 384)).astype(numpy.float32)
    for dtype in ("binary", "ubinary"):
        wanted = quantize_embeddings(found, precision=dtype)
        assert (numpy.stack([vectors.typed(one, dtype) for one in found]) == wanted).all()


def test_what_a_text_is_for_goes_to_the_model() -> None:
    given = []

    def answer(label: str, data: Any, parameters: Any) -> Any:
        given.append(parameters)
        return VECTOR

    with answering(["a@1"], by_parameters=answer):
        for more in (
            {"input_type": "query"},
            {"input_type": "search_document", "truncation": False},
            {"input_type": None, "prompt_name": "code", "truncation": True},
        ):
            assert post({"input": "one"} | more).status_code == 200
    assert given == [
        {"input_type": "query"},
        {"input_type": "document", "truncate": False},
        {"prompt_name": "code"},
    ]


@pytest.mark.parametrize(
    "more",
    [
        {"model": None, "encoding_format": None, "dimensions": None},
        {"model": "", "dimensions": 0, "user": "somebody", "top_n": 3},
        {"model": "default"},
        {"model": "default/not-specified"},
        {"model": "a@1"},
    ],
)
def test_what_clients_send_along_changes_nothing(more: dict[str, Any]) -> None:
    [one] = answered({"input": "one"} | more)["data"]
    assert one["embedding"] == pytest.approx(VECTOR.tolist())


def test_without_a_name_the_default_model_is_asked_that_embeds() -> None:
    publish(
        plan_of(
            model("classifier", "1", active="1", kind="classify"),
            model("b", "1", kind="embed"),
            model("c", "1", active="1", kind="embed"),
        ),
        {"v": ["classifier@1"], "x": ["c@1"]},
    )
    assert answered({"input": "one"})["model"] == "c"
    status, error = refused({"input": "one", "model": "classifier"})
    assert (status, error["code"]) == (400, "wrong_kind")
    publish(plan_of(model("classifier", "1", active="1", kind="classify")), {})
    status, error = refused({"input": "one"})
    assert (status, error["code"]) == (503, "no_worker")
    assert "No model of the kind embed, sleep" in error["message"]


@pytest.mark.parametrize(
    ("body", "code", "param", "says"),
    [
        (b"not JSON", "invalid_json", None, "Expected JSON"),
        (b"", "invalid_json", None, "The body is empty"),
        (["one"], "invalid_input", None, "Expected an object"),
        ({}, "invalid_input", "input", "expected a string or an array of strings; got null"),
        ({"input": {}}, "invalid_input", "input", "got an object"),
        ({"input": "a", "output_dtype": "int4"}, "invalid_input", "output_dtype", "int8, uint8"),
        ({"input": "a", "input_type": ["query"]}, "invalid_input", "input_type", "expected one of"),
        ({"input": "a", "prompt_name": 1}, "invalid_input", "prompt_name", "expected a string"),
        ({"input": "a", "truncation": "no"}, "invalid_input", "truncation", "expected true"),
        ({"input": []}, "empty_batch", "input", "Send at least one string"),
        ({"input": [["a"]]}, "token_ids", "input", "check_embedding_ctx_length=False"),
        ({"input": [1, 2]}, "token_ids", "input", "check_embedding_ctx_length=False"),
        ({"input": ["a", None]}, "not_a_string", "input[1]", "got null"),
        ({"input": ["a", "\u200b"]}, "blank_input", "input[1]", "input[1]: The string is empty"),
        ({"input": "a", "model": 5}, "invalid_input", "model", "got a number"),
        (
            {"input": "a", "encoding_format": "x"},
            "invalid_input",
            "encoding_format",
            "got a string",
        ),
        ({"input": "a", "dimensions": -1}, "invalid_input", "dimensions", "a whole number"),
        ({"input": "a", "dimensions": True}, "invalid_input", "dimensions", "got a boolean"),
    ],
)
def test_a_bad_request_names_the_field(body: Any, code: str, param: str, says: str) -> None:
    status, error = refused(body)
    assert (status, error["type"], error["code"]) == (400, "invalid_request_error", code)
    assert error["param"] == param
    assert says in error["message"]


def test_more_dimensions_than_there_are_is_an_error() -> None:
    with answering(["a@1"], lambda label, data: VECTOR):
        status, error = refused({"input": "a", "dimensions": 4})
    assert (status, error["param"]) == (400, "dimensions")
    assert "vectors have 3 numbers" in error["message"]


@pytest.mark.parametrize("name", ["b", "a@7"])
def test_a_model_that_is_not_there(name: str) -> None:
    status, error = refused({"input": "a", "model": name})
    assert (status, error["type"], error["code"]) == (404, "not_found_error", "model_not_found")
    answer = Client().get(f"/v1/models/{name}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_a_version_without_workers_is_worth_another_try_later() -> None:
    answer = post({"input": "a", "model": "a@2"})
    assert answer.status_code == 503
    assert answer["Retry-After"] == "5"
    assert answer.json()["error"]["code"] == "not_serving"


def test_models_are_listed() -> None:
    found = Client().get("/v1/models").json()
    assert found["object"] == "list"
    [one] = found["data"]
    assert one == {"id": "a", "object": "model", "created": 0, "owned_by": "velo"}
    assert Client().get("/v1/models/a").json() == one
    assert Client().get("/v1/models/a@2").json()["id"] == "a@2"


def test_limits_of_a_request(settings: Any) -> None:
    settings.VELO_MAX_INPUTS, settings.VELO_MAX_INPUTS_BYTES = 2, 60
    assert len(answered({"input": ["a", "b"]})["data"]) == 2
    status, error = refused({"input": ["a", "b", "c"]})
    assert (status, error["code"]) == (413, "too_many_inputs")
    assert "raise VELO_MAX_INPUTS" in error["message"]
    status, error = refused({"input": "a" * 60})
    assert (status, error["code"]) == (413, "body_too_large")
    assert "raise VELO_MAX_INPUTS_BYTES" in error["message"]


@pytest.mark.parametrize("path", [EMBEDDINGS, "/embeddings", "/v1/nothing", "/v1/models/x"])
def test_the_server_refuses_in_the_form_of_the_path(path: str, settings: Any) -> None:
    settings.VELO_CLIENT_MAX = settings.VELO_WEB_THREADS = 1
    gate = Gate()
    gate.enter(EMBEDDINGS, "192.0.2.1", 2)
    refusal = gate.enter(EMBEDDINGS, "192.0.2.1", 2)
    assert isinstance(refusal, Refusal)
    status, headers, body = refusal.said(path)
    assert (status, dict(headers)["Retry-After"]) == (429, "1")
    error = json.loads(body)["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "client_share")
    for method in ("get", "delete"):
        answer = getattr(Client(), method)(path)
        assert answer.status_code in (404, 405)
        assert list(answer.json()) == ["error"]


def kinds_of_errors(kind: type[APIError] = APIError) -> set[type[APIError]]:
    found = set(kind.__subclasses__())
    return found.union(*map(kinds_of_errors, found))


@pytest.mark.parametrize("kind", sorted(kinds_of_errors(), key=lambda kind: kind.__name__))
def test_every_error_has_a_form(kind: type[APIError]) -> None:
    found = form(EMBEDDINGS)(kind().failure)
    assert found.body["error"]["message"] == kind.example
    assert found.status == (503 if kind is errors.NotServing else kind.status_code)
    harmful = kind in (errors.ModelFailed, errors.Poisonous)
    for said in (found, form("/transform")(kind().failure)):
        assert said.headers.get("X-Should-Retry") == ("false" if harmful else None)
        assert int(said.headers.get("Retry-After", 0)) <= 120
        assert ("Retry-After" in said.headers) == (said.status in (429, 503))


def test_the_version_that_answered_is_in_the_headers() -> None:
    with answering(["a@1"], lambda label, data: VECTOR):
        answer = post({"input": ["a", "b"]})
    assert answer["X-Velo-Model-Version"] == VersionId("a", "1").label
    assert answer["X-Velo-Model"] == "a"
    assert "total;dur=" in answer["Server-Timing"]

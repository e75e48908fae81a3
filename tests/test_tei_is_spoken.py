"""TEI's form of requests, answers and errors, and hosted inference's; the answers of the models are
written by hand."""

from typing import Any

import numpy
import orjson
import pytest
from django.test import Client

from inference import errors
from inference.errors import APIError
from inference.gate import Gate, Refusal
from inference.protocols.forms import form
from tests.answering import Refused, answering, model, plan_of, publish, version, waiting

VECTORS = {"one": [0.6, 0.0, 0.8], "two": [0.0, 1.0, 0.0], "long": [3.0, 0.0, 4.0]}
LOGITS = [{"label": "good", "score": 2.0}, {"label": "bad", "score": -1.0}]
SCORES = [{"label": "good", "score": 0.75}, {"label": "bad", "score": 0.25}]
NAMES = [{"label": "PER", "score": 0.9, "start": 0, "end": 3, "text": "Ada"}]
TOKENS = [{"id": 7, "text": "one", "special": False, "start": 0, "stop": 3}]
LABELS = ["a@1", "c@1", "n@1", "r@1", "s@1"]

pytestmark = pytest.mark.usefixtures("redis")


@pytest.fixture(autouse=True)
def models(redis: None) -> None:
    facts = {"max_tokens": 256, "pooling": "mean", "dtype": "bf16", "prompts": ["query"]}
    known = {"1": version("a", "1", facts=facts, digest="f00")}
    publish(
        plan_of(
            model("a", active="1", versions=known),
            model("c", active="1", kind="classify", versions=classifier("c")),
            model("n", "1", active="1", kind="ner"),
            model("r", active="1", kind="rerank", versions=classifier("r")),
            model("s", "1", active="1", kind="sparse"),
        ),
        {"w": LABELS},
    )


def classifier(name: str) -> dict[str, Any]:
    return {"1": version(name, "1", facts={"labels": ["bad", "good"]})}


def post(path: str, body: Any, **headers: str) -> Any:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return Client(raise_request_exception=False, headers=headers).post(
        path, content, "application/json"
    )


def by_hand(label: str, data: Any, parameters: dict[str, Any]) -> Any:
    """As a model of the label's kind answers."""
    match label[0]:
        case "a" if parameters.get("output") == "tokens":
            return TOKENS
        case "a" if parameters.get("output") == "token_embeddings":
            return numpy.array([VECTORS[data]] * 2, numpy.float32)
        case "a":
            vector = numpy.array(VECTORS[data], numpy.float32)
            return (
                vector if parameters["normalize"] is False else vector / numpy.linalg.norm(vector)
            )
        case "c":
            return LOGITS if parameters.get("raw_scores") else SCORES
        case "n":
            return NAMES
        case "r":
            ranked = sorted(enumerate(data["texts"]), key=lambda one: -len(one[1]))
            return [{"index": index, "score": len(text) / 100} for index, text in ranked]
    return [{"index": 3, "value": 0.5}]


@pytest.fixture
def asked() -> Any:
    """What models are asked at a path, with which parameters, and what comes of it."""

    def ask(path: str, body: Any) -> tuple[Any, list[tuple[Any, dict[str, Any]]]]:
        given = []

        def answer(label: str, data: Any, parameters: dict[str, Any]) -> Any:
            given.append((data, parameters))
            return by_hand(label, data, parameters)

        with answering(LABELS, by_parameters=answer):
            found = post(path, body)
        assert found.status_code == 200, found.content
        return found.json(), given

    return ask


def refused(path: str, body: Any, **headers: str) -> tuple[int, str, str]:
    answer = post(path, body, **headers)
    assert answer["Content-Type"] == "application/json"
    found = answer.json()
    assert list(found) == ["error", "error_type"]
    return answer.status_code, found["error_type"], found["error"]


@pytest.mark.parametrize("path", ["/embed", "/models/a/embed", "/models/a@1/embed", "/"])
def test_texts_are_embedded_in_their_order(asked: Any, path: str) -> None:
    found, given = asked(path, {"inputs": ["two", "one"]})
    assert numpy.allclose(found, [VECTORS["two"], VECTORS["one"]])
    assert given == [("two", {"normalize": True}), ("one", {"normalize": True})]


def test_one_text_gives_an_array_of_vectors_too(asked: Any) -> None:
    found, _ = asked("/embed", {"inputs": "one"})
    assert numpy.allclose(found, [VECTORS["one"]])


def test_a_vector_may_be_left_as_long_as_it_is_or_shortened(asked: Any) -> None:
    [found], _ = asked("/embed", {"inputs": "long", "normalize": False})
    assert found == VECTORS["long"]
    [found], _ = asked("/embed", {"inputs": "long", "normalize": False, "dimensions": 2})
    assert found == [3.0, 0.0]
    [found], _ = asked("/embed", {"inputs": "long", "dimensions": 2})
    assert found == [1.0, 0.0]


def test_how_a_text_is_read_goes_to_the_model(asked: Any) -> None:
    more = {"truncate": False, "truncation_direction": "Left", "prompt_name": "query"}
    _, given = asked("/embed", {"inputs": "one", **more})
    read = {"truncate": False, "truncation_side": "left", "prompt_name": "query"}
    assert given == [("one", {**read, "normalize": True})]
    for parameters in (more, {**more, "normalize": False}):
        _, [(_, sent)] = asked("/", {"inputs": "one", "parameters": parameters})
        assert sent == {**read, "normalize": "normalize" not in parameters}


@pytest.mark.parametrize(
    "more",
    [
        {"truncate": None, "truncation_direction": None, "prompt_name": None, "normalize": None},
        {"dimensions": 0, "model": "other", "top_n": 3, "parameters": None},
        {"truncate": True},
    ],
)
def test_what_clients_send_along_changes_nothing(asked: Any, more: dict[str, Any]) -> None:
    found, given = asked("/embed", {"inputs": "one", **more})
    assert numpy.allclose(found, [VECTORS["one"]])
    assert given == [("one", {"normalize": True})]


@pytest.mark.parametrize("path", ["/rerank", "/models/r/rerank", "/models/r", "/"])
def test_texts_are_ranked(asked: Any, path: str) -> None:
    body = {"query": "q", "texts": ["short", "the longest", "longer"]}
    found, given = asked(path, body)
    assert [one["index"] for one in found] == [1, 2, 0]
    assert found[0] == {"index": 1, "score": 0.11}
    assert given == [({"query": "q", "texts": body["texts"]}, {"raw_scores": False})]
    more = {"return_text": True, "raw_scores": True, "truncate": False}
    found, given = asked(path, {**body, **more, "truncation_direction": "Right"})
    assert found[0] == {"index": 1, "text": "the longest", "score": 0.11}
    assert given[0][1] == {"raw_scores": True, "truncate": False}


def test_documents_are_ranked_in_the_other_form(asked: Any) -> None:
    body = {"query": "q", "documents": ["short", "the longest"]}
    for path in ("/rerank", "/models/r/rerank"):
        found, _ = asked(path, body)
        assert [one["relevance_score"] for one in found["results"]] == [0.11, 0.05]


@pytest.mark.parametrize("path", ["/rerank", "/models/r/rerank"])
def test_the_body_decides_in_which_form_a_ranking_fails(path: str) -> None:
    blank = {"query": "q", "texts": ["a", " "]}
    assert refused(path, blank) == (
        *(422, "Validation"),
        "texts[1]: the string is blank. Send some text.",
    )
    answer = post(path, {"query": "q", "documents": ["a", " "]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "documents[1]")
    is_openai = path == "/rerank"
    found = post(path, b"{").json()["error"]
    assert isinstance(found, dict) == is_openai


def test_a_ranking_leaves_out_the_end_of_long_texts() -> None:
    body = {"query": "q", "texts": ["a"], "truncation_direction": "Left"}
    status, kind, message = refused("/rerank", body)
    assert (status, kind) == (422, "Validation")
    assert 'Send "Right"' in message


def test_texts_are_classified(asked: Any) -> None:
    scores = [{"score": 0.75, "label": "good"}, {"score": 0.25, "label": "bad"}]
    found, given = asked("/predict", {"inputs": "x"})
    assert (found, given) == (scores, [("x", {})])
    assert asked("/predict", {"inputs": ["x"]})[0] == scores
    found, given = asked("/models/c/predict", {"inputs": [["x"], ["y"]], "truncate": False})
    assert (found, given) == ([scores] * 2, [(text, {"truncate": False}) for text in "xy"])
    found, [(_, parameters)] = asked("/predict", {"inputs": "x", "raw_scores": True})
    assert parameters == {"raw_scores": True}
    assert found[0] == {"score": 2.0, "label": "good"}


def test_pairs_are_scored(asked: Any) -> None:
    found, given = asked("/predict", {"inputs": ["q", "a"]})
    assert found == [{"score": 0.01, "label": "LABEL_0"}]
    assert given == [({"query": "q", "texts": ["a"]}, {"raw_scores": False})]
    found, given = asked("/predict", {"inputs": [["q", "a"], ["q", "bb"]], "raw_scores": True})
    assert [one["score"] for [one] in found] == [0.01, 0.02]
    assert given[1] == ({"query": "q", "texts": ["bb"]}, {"raw_scores": True})


def test_sentences_are_compared(asked: Any) -> None:
    inputs = {"source_sentence": "one", "sentences": ["long", "two", "one"]}
    for path in ("/similarity", "/models/a/similarity", "/", "/models/a"):
        found, given = asked(path, {"inputs": inputs, "parameters": {"prompt_name": "query"}})
        assert found == pytest.approx([1.0, 0.0, 1.0])
        assert given[0] == ("one", {"prompt_name": "query", "normalize": True})


def test_texts_are_tokenized(asked: Any) -> None:
    found, given = asked("/tokenize", {"inputs": ["one", "two"]})
    assert (found, given[1]) == ([TOKENS] * 2, ("two", {"output": "tokens"}))
    body = {"inputs": "one", "add_special_tokens": False, "prompt_name": "query"}
    found, [(_, parameters)] = asked("/models/a/tokenize", body)
    assert found == [TOKENS]
    wanted = {"output": "tokens", "add_special_tokens": False, "prompt_name": "query"}
    assert parameters == wanted


def test_each_token_is_embedded(asked: Any) -> None:
    found, given = asked("/embed_all", {"inputs": ["one", "two"]})
    assert numpy.allclose(found, [[VECTORS["one"]] * 2, [VECTORS["two"]] * 2])
    assert given[0] == ("one", {"output": "token_embeddings"})


def test_texts_are_embedded_into_the_vocabulary(asked: Any) -> None:
    found, given = asked("/embed_sparse", {"inputs": ["one", "two"]})
    assert found == [[{"index": 3, "value": 0.5}]] * 2
    assert given[0] == ("one", {})


def test_hosted_inference_classifies(asked: Any) -> None:
    scores = [{"score": 0.75, "label": "good"}, {"score": 0.25, "label": "bad"}]
    assert asked("/models/c", {"inputs": "x"})[0] == [scores]
    assert asked("/models/c", {"inputs": ["x", "y"]})[0] == [scores] * 2
    best = {"inputs": "x", "parameters": {"top_k": 1}}
    assert asked("/models/c", best)[0] == [scores[:1]]
    for function, wanted in (
        ("none", [2.0, -1.0]),
        ("sigmoid", [0.8808, 0.2689]),
        ("softmax", [0.9526, 0.0474]),
    ):
        body = {"inputs": "x", "parameters": {"function_to_apply": function}}
        [found], [(_, parameters)] = asked("/models/c", body)
        assert parameters == {"raw_scores": True}
        assert [one["score"] for one in found] == pytest.approx(wanted, abs=1e-4)


def test_hosted_inference_finds_names(asked: Any) -> None:
    name = {"entity_group": "PER", "score": 0.9, "word": "Ada", "start": 0, "end": 3}
    assert asked("/models/n", {"inputs": "Ada"})[0] == [name]
    assert asked("/models/n", {"inputs": ["Ada"]})[0] == [[name]]


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "says"),
    [
        ("/embed", b"not JSON", 422, "Validation", "Expected JSON"),
        ("/embed", b"", 422, "Validation", "The body is empty"),
        ("/embed", ["one"], 422, "Validation", "Expected an object"),
        ("/embed", {}, 422, "Validation", "inputs: expected a string or an array of strings"),
        ("/embed", {"inputs": []}, 400, "Empty", "inputs: the array is empty"),
        ("/embed", {"inputs": ["a", " "]}, 422, "Validation", "inputs[1]: The string is empty"),
        ("/embed", {"inputs": ["a", 1]}, 422, "Validation", "inputs[1]: Expected a JSON string"),
        ("/embed", {"inputs": ["a"] * 2049}, 413, "Validation", "at most 2048"),
        ("/embed_all", {"inputs": ["a"] * 33}, 413, "Validation", "raise VELO_BATCH_MAX"),
        ("/embed", {"inputs": "a", "truncate": "no"}, 422, "Validation", "truncate: expected true"),
        ("/embed", {"inputs": "a", "truncation_direction": []}, 422, "Validation", '"Left"'),
        ("/embed", {"inputs": "a", "truncation_direction": "up"}, 422, "Validation", "'up'"),
        ("/embed", {"inputs": "a", "prompt_name": 1}, 422, "Validation", "prompt_name: expected"),
        ("/embed", {"inputs": "a", "dimensions": -1}, 422, "Validation", "dimensions: expected"),
        ("/embed", {"inputs": "a", "normalize": 1}, 422, "Validation", "normalize: expected"),
        ("/models/c/embed", {"inputs": "a"}, 424, "Backend", "c is a model of the kind classify"),
        ("/models/x/embed", {"inputs": "a"}, 404, "Validation", "There is no model 'x'"),
        ("/models/a@2/embed", {"inputs": "a"}, 404, "Validation", "has no version '2'"),
        ("/models/x", {"inputs": "a"}, 404, "Validation", "There is no model 'x'"),
        ("/rerank", {"query": "q", "texts": []}, 400, "Empty", "texts: the array is empty"),
        ("/rerank", {"query": " ", "texts": ["a"]}, 422, "Validation", "query: the string is bl"),
        ("/predict", {"inputs": []}, 400, "Empty", "inputs: the array is empty"),
        ("/predict", {"inputs": ["a", "b", "c"]}, 422, "Validation", "a pair of strings"),
        ("/predict", {"inputs": [["a"], ["b", "c"]]}, 422, "Validation", "some are pairs"),
        ("/predict", {"inputs": [["a", "b"], ["b", " "]]}, 422, "Validation", "inputs[1][1]: the"),
        ("/predict", {"inputs": [[], ["b"]]}, 422, "Validation", "inputs: expected"),
        ("/predict", {"inputs": {}}, 422, "Validation", "inputs: expected"),
        ("/models/a/predict", {"inputs": "a"}, 424, "Backend", "this address takes classify"),
        ("/similarity", {"inputs": "a"}, 422, "Validation", "inputs: expected an object"),
        (
            *("/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}),
            *(400, "Empty", "inputs.sentences: the array is empty"),
        ),
        (
            *("/similarity", {"inputs": {"source_sentence": " ", "sentences": ["a"]}}),
            *(422, "Validation", "inputs.source_sentence: The string is empty"),
        ),
        ("/similarity", {"inputs": {"sentences": ["a"]}}, 422, "Validation", "inputs.source_"),
        ("/tokenize", {"inputs": []}, 400, "Empty", "inputs: the array is empty"),
        ("/tokenize", {"inputs": "a", "add_special_tokens": 1}, 422, "Validation", "add_special"),
        ("/models/r/tokenize", {"inputs": "a"}, 424, "Backend", "this address takes"),
        ("/", {"inputs": "a", "parameters": []}, 422, "Validation", "parameters: expected an obj"),
        ("/models/c", {"inputs": "a", "top_k": 0}, 422, "Validation", "top_k: expected"),
        (
            *("/models/c", {"inputs": "a", "parameters": {"function_to_apply": "tanh"}}),
            *(422, "Validation", "function_to_apply: expected"),
        ),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(
    path: str, body: Any, status: int, kind: str, says: str
) -> None:
    found = refused(path, body)
    assert found[:2] == (status, kind)
    assert says in found[2]
    assert not any(map(waiting, LABELS))


def test_a_refusal_of_the_model_is_told_too() -> None:
    sentence = "The input has 300 tokens, and may not be truncated; the model reads 256."

    with answering(LABELS, lambda *_: Refused("too_many_tokens", sentence)):
        found = refused("/embed", {"inputs": "one", "truncate": False})
        assert found == (422, "Validation", sentence)


def kinds_of_errors(kind: type[APIError] = APIError) -> set[type[APIError]]:
    found = set(kind.__subclasses__())
    return found.union(*map(kinds_of_errors, found))


STATUSES = {
    "bad_request": (422, "Validation"),
    "blank_input": (422, "Validation"),
    "body_timeout": (408, "Validation"),
    "body_too_large": (413, "Validation"),
    "client_share": (429, "Overloaded"),
    "rate_limited": (429, "Overloaded"),
    "invalid_api_key": (401, "Validation"),
    "database_away": (503, "Unhealthy"),
    "deadline_passed": (504, "Overloaded"),
    "empty_batch": (400, "Empty"),
    "input_too_long": (413, "Validation"),
    "invalid_encoding": (422, "Validation"),
    "invalid_input": (422, "Validation"),
    "invalid_json": (422, "Validation"),
    "invalid_timeout": (422, "Validation"),
    "job_lost": (503, "Unhealthy"),
    "length_required": (411, "Validation"),
    "model_failed": (424, "Backend"),
    "no_worker": (503, "Unhealthy"),
    "not_a_string": (422, "Validation"),
    "not_serving": (503, "Unhealthy"),
    "poisonous": (424, "Backend"),
    "queue_away": (503, "Unhealthy"),
    "queue_full": (429, "Overloaded"),
    "server_error": (500, "Backend"),
    "suspended": (503, "Unhealthy"),
    "token_ids": (422, "Validation"),
    "too_many_inputs": (413, "Validation"),
    "too_many_tokens": (422, "Validation"),
    "unknown_model": (404, "Validation"),
    "unknown_version": (404, "Validation"),
    "unsupported_encoding": (415, "Validation"),
    "unsupported_media_type": (415, "Validation"),
    "wrong_kind": (424, "Backend"),
}


def test_every_error_has_its_status_and_type() -> None:
    found = {}
    for kind in kinds_of_errors():
        said = form("/embed")(kind().failure)
        assert said.body["error"] == kind.example
        assert ("Retry-After" in said.headers) == (said.status in (429, 503)), kind
        if kind in (errors.ModelFailed, errors.Poisonous):
            assert said.headers["X-Should-Retry"] == "false"
        found[kind.default_code] = said.status, said.body["error_type"]
    assert found == STATUSES


@pytest.mark.parametrize(
    ("path", "is_tei"),
    [
        ("/", True),
        ("/embed", True),
        ("/info", True),
        ("/health", True),
        ("/models/a", True),
        ("/models/a/info", True),
        ("/models/a/rerank", True),
        ("/models", False),
        ("/models/", False),
        ("/models//embed", False),
        ("/models/a/transform", False),
        ("/models/a/versions/1/transform", False),
        ("/rerank", False),
        ("/health/live", False),
        ("/embeddings", False),
        ("/transform", False),
    ],
)
def test_the_path_decides_the_form(path: str, is_tei: bool) -> None:
    said = form(path)(errors.UnknownModel().failure)
    assert ("error_type" in said.body) == is_tei
    status, _, body = Refusal(errors.QueueFull()).said(path)
    assert status == 429
    assert ("error_type" in orjson.loads(body)) == is_tei


def test_other_methods_are_refused_in_teis_form() -> None:
    for path in ("/embed", "/models/a/embed"):
        answer = Client().get(path)
        assert answer.status_code == 405
        assert answer["Allow"] == "POST, OPTIONS"
        assert answer.json()["error_type"] == "Validation"
    answer = Client().get("/")
    assert (answer.status_code, answer["Location"]) == (302, "/docs")


def test_models_are_asked_in_the_room_for_models() -> None:
    gate = Gate()
    rooms = {path: gate.room(path) for path in ("/transform", "/health/live", "/docs")}
    for path in ("/", "/embed", "/models/a", "/models/a/embed", "/models/a/rerank", "/predict"):
        assert gate.room(path) is rooms["/transform"], path
    for path in ("/health", "/models/a/health"):
        assert gate.room(path) is rooms["/health/live"], path
    for path in ("/info", "/models", "/models/a/info"):
        assert gate.room(path) is rooms["/docs"], path


def test_info_tells_of_the_model_and_its_limits(settings: Any) -> None:
    settings.VELO_BATCH_MAX = 7
    found = Client().get("/info").json()
    assert found == Client().get("/models/a/info").json()
    assert found["model_id"] == "a"
    assert found["served_model_name"] == "a@1"
    assert found["model_sha"] == "f00"
    assert found["model_dtype"] == "bfloat16"
    assert found["model_type"] == {"embedding": {"pooling": "mean"}}
    assert found["max_input_length"] == 256
    assert found["max_batch_requests"] == 7
    assert found["max_client_batch_size"] == 2048
    assert found["tokenization_workers"] == 1
    labels = {"id2label": {"0": "bad", "1": "good"}, "label2id": {"bad": 0, "good": 1}}
    found = Client().get("/models/c/info").json()
    assert found["model_type"] == {"classifier": labels}
    assert found["max_input_length"] is None
    assert Client().get("/models/r/info").json()["model_type"] == {"reranker": labels}
    found = Client().get("/models/s/info").json()
    assert found["model_type"] == {"embedding": {"pooling": "splade"}}
    answer = Client().get("/models/x/info")
    assert (answer.status_code, answer.json()["error_type"]) == (404, "Validation")


def test_health_tells_whether_a_model_answers() -> None:
    for path in ("/health", "/models/a/health"):
        assert Client().get(path).status_code == 200
    publish(plan_of(model("a", "1", active="1"), model("b", "1", active="1")), {"w": ["a@1"]})
    answer = Client().get("/models/b/health")
    assert (answer.status_code, answer.json()["error_type"]) == (503, "Unhealthy")
    assert answer["Retry-After"] == "5"
    assert Client().get("/models/x/health").status_code == 404

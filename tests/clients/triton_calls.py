"""Triton's client of the Open Inference Protocol: `triton_calls.py BASE MODEL` prints what it gave,
as JSON."""

import json
import sys
from typing import Any

import numpy
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

BASE, MODEL = sys.argv[1:]
RANKER, CLASSIFIER = "ranker", "colours"
TEXTS = ["Hello, world!", "Тест!", "你好"]
QUERY = "How long is a day?"
DOCUMENTS = ["A year has 365 days.", "A day has 24 hours.", "Bread is baked."]


def tensor(name: str, texts: list[str], binary: bool = True) -> Any:
    found = InferInput(name, [len(texts)], "BYTES")
    found.set_data_from_numpy(numpy.array(texts, dtype=object), binary_data=binary)
    return found


def main() -> None:
    client = InferenceServerClient(BASE.removeprefix("http://"))

    def infer(model: str, *inputs: Any, wanted: str, binary: bool = True, **how: Any) -> Any:
        outputs = [InferRequestedOutput(wanted, binary_data=binary)]
        found = client.infer(model, list(inputs), outputs=outputs, **how).as_numpy(wanted)
        return [one.decode() if isinstance(one, bytes) else one for one in found.tolist()]

    def refused(model: str, *inputs: Any) -> Any:
        try:
            client.infer(model, list(inputs))
        except InferenceServerException as error:
            return [error.status(), error.message()]

    texts = tensor("text", TEXTS)
    version = client.get_model_metadata(MODEL)["versions"][0]
    answer = client.infer(MODEL, [texts], request_id="7").get_response()
    found = {
        "texts": TEXTS,
        "query": QUERY,
        "documents": DOCUMENTS,
        "live": [client.is_server_live(), client.is_server_ready()],
        "ready": [client.is_model_ready(one) for one in (MODEL, RANKER, CLASSIFIER, "unknown")],
        "version ready": client.is_model_ready(MODEL, version),
        "server": client.get_server_metadata(),
        "model": client.get_model_metadata(MODEL, version),
        "answer": {name: answer.get(name) for name in ("id", "model_name", "model_version")},
        "version": version,
        "binary": infer(MODEL, texts, wanted="embedding"),
        "json": infer(MODEL, tensor("text", TEXTS, False), wanted="embedding", binary=False),
        "gzip": infer(MODEL, texts, wanted="embedding", request_compression_algorithm="gzip"),
        "deflate": infer(
            MODEL,
            *(texts,),
            wanted="embedding",
            model_version=version,
            request_compression_algorithm="deflate",
        ),
        "scores": infer(
            RANKER, tensor("query", [QUERY]), tensor("texts", DOCUMENTS), wanted="score"
        ),
        "labels": infer(CLASSIFIER, texts, wanted="label"),
        "classes": infer(CLASSIFIER, texts, wanted="scores"),
        "blank": refused(MODEL, tensor("text", ["one", " "])),
        "unknown model": refused("unknown", texts),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()

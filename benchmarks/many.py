"""How fast many texts in one request are embedded, beside the engine alone.

`python -m benchmarks.many` asks /v1/embeddings as OpenAI's client does (base64), with 32 and with
256 texts a request; then with the most that a request may have, and one more. Writes many.json and
many.md into var/benchmarks.
"""

import base64
import json
import statistics
import time
from typing import Any

import numpy

from benchmarks import loads, report
from benchmarks.load import sentences
from benchmarks.serve import ceiling
from tests.stack import Stack

PATH = "/v1/embeddings"
BODY = '{"input": %s, "encoding_format": "base64"}'
TEXTS, CALLERS, WORKERS = (32, 256), (1, 8), 2
QUEUE = max(TEXTS) * max(CALLERS)  # by default fewer inputs may wait
LARGE = (1000, 2048, 2049)
SECONDS = 8.0
ALIKE = 0.999  # cosine of a text's vector to the vector that it has alone


def measure(knobs: dict[str, object]) -> dict[str, Any]:
    # The machine's speed drifts: the ceiling is taken before and after.
    engine, loaded = [ceiling("engine", knobs)], []
    with loads.velo(WORKERS, VELO_MAX_QUEUE=QUEUE, **knobs) as running:
        for texts in TEXTS:
            for callers in CALLERS:
                words = ("--path", PATH, "--body", BODY, "--texts", str(texts))
                found = loads.load(running, callers, SECONDS, *words).to_json()
                loaded.append({"texts": texts, **found})
            engine.append(ceiling("engine", knobs))
        large = [one_request(running, count) for count in LARGE]
    return {"engine": engine, "loaded": loaded, "large": large}


def one_request(velo: Stack, count: int) -> dict[str, Any]:
    """On an idle server."""
    given = [f"{number}: {text}" for number, text in enumerate(sentences(count))]
    started = time.perf_counter()
    answer = ask(velo, given)
    took = time.perf_counter() - started
    found = {"texts": count, "status": answer.status, "seconds": took, "in_order": None}
    if answer.status == 200:
        data = answer.json["data"]
        indices = [one["index"] for one in data] == list(range(count))
        some = range(0, count, count // 20)
        alike = all(
            vector(ask(velo, [given[one]]), 0) @ vector(answer, one) > ALIKE for one in some
        )
        found["in_order"] = len(data) == count and indices and alike
    return found


def ask(velo: Stack, given: list[str]) -> Any:
    body = (BODY % json.dumps(given)).encode()
    return velo.request("POST", PATH, body, {"Content-Type": "application/json"})


def vector(answer: Any, place: int) -> Any:
    raw = base64.b64decode(answer.json["data"][place]["embedding"])
    return numpy.frombuffer(raw, "<f4")


def summary(model: str, found: dict[str, Any]) -> str:
    engine = statistics.mean(one["rate"] for one in found["engine"])
    spread = [f"{bound(one['rate'] for one in found['engine']):.0f}" for bound in (min, max)]
    rows = [
        [
            str(one["texts"]),
            str(one["callers"]),
            f"{one['rate'] * one['texts']:.0f}",
            f"{one['rate'] * one['texts'] / engine:.0%}",
            f"{one['p50'] * 1000:.0f}",
            str(one["errors"]),
        ]
        for one in found["loaded"]
    ]
    heads = ["texts a request", "callers", "texts/s", "of the engine alone", "p50 ms", "errors"]
    large = "; ".join(
        f"{one['texts']} texts: {one['status']} in {one['seconds']:.2f} s"
        + ("" if one["in_order"] is None else ", in order" if one["in_order"] else ", OUT OF ORDER")
        for one in found["large"]
    )
    return (
        f"### {model}\n\n{report.table(heads, rows)}\n\n- The engine alone, batches of 32: "
        f"{engine:.0f} texts/s (from {spread[0]} to {spread[1]} during the run).\n"
        f"- One request, {WORKERS} workers, idle: {large}."
    )


def main() -> None:
    with loads.served_models() as models:
        found = {name: measure(knobs) for name, knobs in models.items()}
    report.write("many", found, "\n\n".join(summary(*item) for item in found.items()))


if __name__ == "__main__":
    main()

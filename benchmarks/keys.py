"""What API keys cost, and what their limits do.

`python -m benchmarks.keys` measures the throughput of 64 callers with and without keys, in turn;
how many inputs a key with 600 inputs a minute gets from 16 callers over two web processes, and
whether the headers say what happens; and what a modest client notices of a greedy client. Writes
keys.json and keys.md into var/benchmarks.
"""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks import loads, report
from tests.stack import Answer, Stack

CALLERS, SECONDS, ROUNDS = 64, 6.0, 3
LIMIT, LIMITED_SECONDS, LIMITED_CALLERS = 600, 120.0, 16
MODEST, GREEDY, AT_ONCE = 4, 256, 2
PAUSE = 0.05  # seconds between two requests of a caller that is over its limit
REMAINING = re.compile(r'"inputs";r=(\d+);t=(\d+)')


def main() -> None:
    found = {"cost": cost(), "limit": limit(), "greed": greed()}
    report.write("keys", found, summary(found))


def cost() -> list[dict[str, Any]]:
    """In turn: an open API, and an API with keys, limits, usage and records of use."""
    rounds = []
    with (
        loads.velo(2) as without,
        loads.velo(2, VELO_AUTH="keys") as having,
    ):
        key = a_key(having, "bench", "--inputs-per-minute", "100000000")
        for _ in range(ROUNDS):
            rounds.append(
                {
                    "open": loads.load(without, CALLERS, SECONDS).to_json(),
                    "keys": loads.load(having, CALLERS, SECONDS, "--key", key).to_json(),
                }
            )
    return rounds


def limit() -> dict[str, Any]:
    """A limited key over two web processes."""
    knobs: dict[str, object] = {"VELO_PREDICTOR": "sleep", "VELO_SLEEP_MS": 5}
    with loads.velo(3, VELO_AUTH="keys", VELO_WEB_PROCESSES=2, **knobs) as running:
        key = a_key(running, "limited", "--inputs-per-minute", str(LIMIT))
        counts: dict[int, int] = {}
        wrong: list[str] = []
        lock = threading.Lock()
        started = time.monotonic()

        def call() -> None:
            while time.monotonic() < started + LIMITED_SECONDS:
                answer = ask(running, key)
                with lock:
                    counts[answer.status] = counts.get(answer.status, 0) + 1
                    wrong.extend(untrue(answer))
                if answer.status != 200:
                    time.sleep(PAUSE)

        with ThreadPoolExecutor(LIMITED_CALLERS) as threads:
            for _ in range(LIMITED_CALLERS):
                threads.submit(call)
        took = time.monotonic() - started
        expected = LIMIT + LIMIT * took / 60  # a full bucket, and what came in meanwhile
        # Who waits as long as it is told is let in.
        while (refused := ask(running, key)).status == 200:
            pass
        time.sleep(int(refused.headers["retry-after"]))
        after = ask(running, key).status
    return {
        "seconds": took,
        "statuses": counts,
        "admitted": counts.get(200, 0),
        "expected": expected,
        "untrue": wrong[:10],
        "untrue_count": len(wrong),
        "after_retry_after": after,
    }


def untrue(answer: Answer) -> list[str]:
    """What the headers say that can't be."""
    said = REMAINING.search(answer.headers.get("ratelimit", ""))
    if said is None:
        return ["no RateLimit header"]
    left, full_in = int(said[1]), int(said[2])
    found = []
    if abs(left + full_in * LIMIT / 60 - LIMIT) > LIMIT / 60 + 1:
        found.append(f"{left} left, full in {full_in} s")
    if answer.status == 429 and (left or not 1 <= int(answer.headers["retry-after"]) <= 2):
        found.append(f"429 with {left} left, Retry-After {answer.headers['retry-after']}")
    return found


def greed() -> dict[str, Any]:
    """The times of a modest client: alone, beside a greedy client, beside the same client in the
    background, and beside the same client with a limit of AT_ONCE inputs."""
    with loads.velo(2, VELO_AUTH="keys") as running:
        modest = a_key(running, "modest")
        greedy = a_key(running, "greedy")
        background = a_key(running, "background", "--priority", "background")
        limited = a_key(running, "limited", "--inputs-at-once", str(AT_ONCE))
        found = {"alone": loads.load(running, MODEST, SECONDS, "--key", modest).to_json()}
        for name, key in (("greedy", greedy), ("background", background), ("limited", limited)):
            words = ("--key", key)
            with ThreadPoolExecutor(1) as threads:
                other = threads.submit(loads.load, running, GREEDY, SECONDS + 4, *words)
                time.sleep(2)
                found[name] = loads.load(running, MODEST, SECONDS, "--key", modest).to_json()
                found[f"{name}_itself"] = other.result().to_json()
    return found


def a_key(velo: Stack, client: str, *words: str) -> str:
    """Valid when this returns."""
    key = velo.manage("velo_keys", "create", client, *words).stdout.strip()
    while ask(velo, key).status == 401:
        time.sleep(0.1)
    return key


def ask(velo: Stack, key: str) -> Answer:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    return velo.request("POST", "/transform", b'"a text"', headers)


def summary(found: dict[str, Any]) -> str:
    rates = [(one["open"]["rate"], one["keys"]["rate"]) for one in found["cost"]]
    rows = [[f"{a:.0f}", f"{b:.0f}", f"{b / a:.1%}"] for a, b in rates]
    mean = sum(b for _, b in rates) / sum(a for a, _ in rates)
    limited, greedy = found["limit"], found["greed"]
    times = [
        [
            name,
            f"{greedy[name]['p50'] * 1000:.0f}",
            f"{greedy[name]['p95'] * 1000:.0f}",
            f"{greedy[name]['p95'] / greedy['alone']['p95']:.2f}",
            str(greedy[name]["errors"]),
        ]
        for name in ("alone", "greedy", "background", "limited")
    ]
    return (
        f"### Requests a second, {CALLERS} callers\n\n"
        f"{report.table(['open', 'with keys', 'ratio'], rows)}\n\nIn all: {mean:.1%}.\n\n"
        f"### {LIMIT} inputs a minute\n\n{limited['admitted']} admitted in "
        f"{limited['seconds']:.1f} s, {limited['expected']:.0f} expected "
        f"({limited['admitted'] / limited['expected']:.2%}); statuses {limited['statuses']}; "
        f"{limited['untrue_count']} answers with untrue headers {limited['untrue']}; after "
        f"Retry-After: {limited['after_retry_after']}.\n\n"
        f"### A modest client ({MODEST} callers) beside another ({GREEDY} callers)\n\n"
        f"{report.table(['beside', 'p50 ms', 'p95 ms', 'p95 ratio', 'errors'], times)}"
    )


if __name__ == "__main__":
    main()

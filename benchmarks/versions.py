"""What callers notice when versions of a model are swapped, tried out and refused under load.

`python -m benchmarks.versions` has locust's users ask three workers while versions are activated,
rolled back, tried as canary and shadow, and while workers with new weights replace old ones; holds
each answer against the reference of the version that it names; counts a canary's share of 10,000
requests; weighs workers after each of 20 swaps. Writes versions.json and versions.md into
var/benchmarks. Fails if a request fails or is answered wrong. `--help` lists what can be shorter.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import answers, report, swaps, twins
from benchmarks.answers import Callers
from benchmarks.swaps import MODEL, WORKERS, Steps
from benchmarks.twins import Twins
from tests.stack import Stack, stack
from tests.waiting import eventually

PARTS = ("swaps", "workers", "share", "memory")
ASKING = 8  # at a time, between two swaps
ROUNDS = 10  # before the first swap: a young worker grows by requests alone
MB = 1024**2


class Bench:
    """The parts, each with a Velo of its own."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder = folder
        self._options = options
        self._twins: dict[str, Twins] = {}

    def twins(self, model: str) -> Twins:
        if model not in self._twins:
            self._twins[model] = Twins.make(model, self._folder / "models" / model)
        return self._twins[model]

    @contextmanager
    def velo(self, part: str, workers: int, **knobs: object) -> Iterator[Stack]:
        folder = self._folder / part
        folder.mkdir()
        with stack(folder, workers, VELO_MODEL_ROOTS=self._folder / "models", **knobs) as velo:
            try:
                yield velo
            finally:
                report.OUT.mkdir(parents=True, exist_ok=True)
                (report.OUT / f"versions-{part}.log").write_text(velo.output())

    def callers(self, velo: Stack, model: str, a: str, b: str) -> Callers:
        """Who know what versions with these labels must answer."""
        pair = self.twins(model)
        path = velo.folder / "references.npz"
        vectors = {a: twins.vectors(pair.a), b: twins.vectors(pair.b)}
        return Callers(velo, self._options.users, twins.write_references(path, vectors))

    def swaps(self) -> dict[str, Any]:
        pair = self.twins(self._options.model)
        a, b = f"{MODEL}@{twins.digest(pair.a)}", f"{MODEL}@b"
        golden = twins.texts()[0], twins.vectors(pair.a)[0].tolist()
        knobs = {"VELO_MODEL_PATH": pair.a, "VELO_MODEL_NAME": MODEL, "VELO_DTYPE": "fp32"}
        with self.velo("swaps", WORKERS, **knobs) as velo:
            with self.callers(velo, self._options.model, a, b) as callers:
                steps = Steps.after_a_pause(callers, self._options.quiet)
                swaps.change_versions(velo, steps, a, b, pair.b)
                broken = swaps.check_broken(velo, callers, pair.broken(), golden)
            copies, unanswered = swaps.compared(velo)
        return {
            "a": a,
            "b": b,
            "steps": steps.rows(),
            "copies": copies,
            "unanswered": unanswered,
            "broken": broken,
            **_told(callers),
        }

    def workers(self) -> dict[str, Any]:
        pair = self.twins(self._options.model)
        a, b = (f"{one.name}@{twins.digest(one)}" for one in (pair.a, pair.b))
        with (
            self.velo("workers", 0, VELO_DTYPE="fp32") as velo,
            swaps.own_workers(velo, pair.a) as running,
        ):
            with self.callers(velo, self._options.model, a, b) as callers:
                steps = Steps.after_a_pause(callers, self._options.quiet)
                steps.take(
                    "workers with A stopped, with B started, one by one",
                    lambda: swaps.swap_workers(velo, running, pair.b, b),
                )
            return {"a": a, "b": b, "steps": steps.rows(), **_told(callers)}

    def share(self) -> dict[str, Any]:
        pair = self.twins(self._options.memory_model)
        a, b = f"{MODEL}@{twins.digest(pair.a)}", f"{MODEL}@b"
        knobs = {"VELO_MODEL_PATH": pair.a, "VELO_MODEL_NAME": MODEL, "VELO_DTYPE": "fp32"}
        with self.velo("share", WORKERS, **knobs) as velo:
            swaps.velo_models(velo, "add", MODEL, "b", str(pair.b), "--wait")
            with self.callers(velo, self._options.memory_model, a, b) as callers:
                shares = [
                    swaps.canary_share(velo, callers, b, percent, self._options.requests)
                    for percent in (10, 50)
                ]
        return {"shares": shares, **_told(callers)}

    def memory(self) -> dict[str, Any]:
        """With the engine that Velo chooses."""
        pair = self.twins(self._options.memory_model)
        a, b = f"{MODEL}@{twins.digest(pair.a)}", f"{MODEL}@b"
        weighed = []
        knobs = {"VELO_MODEL_PATH": pair.a, "VELO_MODEL_NAME": MODEL}
        with self.velo("memory", WORKERS, **knobs) as velo:
            swaps.velo_models(velo, "add", MODEL, "b", str(pair.b), "--wait")
            for _ in range(ROUNDS):
                _ask_all(velo, a)
            for number in range(self._options.swaps):
                new, old = (b, a) if number % 2 == 0 else (a, b)
                swaps.decide(velo, "activate", new, "--wait")
                eventually(lambda old=old: swaps.gone(velo, old), seconds=60)  # type: ignore[misc]
                _ask_all(velo, new)
                weighed.append(swaps.resident(velo))
                megabytes = [f"{size / MB:.0f}" for size in weighed[-1].values()]
                print(f"swap {number + 1}: {megabytes} MB", file=sys.stderr, flush=True)
        return {"resident": weighed}


def _told(callers: Callers) -> dict[str, Any]:
    found = callers.answers()
    failed, wrong = answers.bad(found)
    return {
        "sent": len(found),
        "failed": failed,
        "wrong": wrong,
        "examples": [vars(one) for one in answers.examples(found)],
        "exactness": answers.exactness(found),
    }


def _ask_all(velo: Stack, label: str) -> None:
    with ThreadPoolExecutor(ASKING) as threads:
        for answer in threads.map(velo.transform, twins.texts()):
            assert answer.status == 200, answer
            assert answer.headers["x-velo-model-version"] == label, answer.headers


# --- what is written ----------------------------------------------------------------------------


def summary(found: dict[str, Any]) -> str:
    parts = []
    if steps := [row for part in ("swaps", "workers") for row in _steps(found.get(part))]:
        heads = ["", "took", "requests", "failed", "wrong", "by A", "by B"]
        parts.append(report.table([*heads, "p95 before", "during", "after"], steps))
    if "swaps" in found:
        one = found["swaps"]
        parts.append(
            f"The shadow answered {one['copies']:,} copies, and {one['unanswered']:,} not."
        )
        parts.append(_broken(one["broken"]))
    if "share" in found:
        parts.append(_shares(found["share"]["shares"]))
    for part in PARTS:
        if "exactness" in found.get(part, {}):
            told = found[part]
            parts.append(
                f"`{part}`: {told['sent']:,} requests, {told['failed']} failed, {told['wrong']} "
                f"wrong. {told['exactness']}"
            )
    if "memory" in found:
        parts.append(_memory(found["memory"]["resident"]))
    return "\n\n".join(parts)


def _steps(part: dict[str, Any] | None) -> list[list[str]]:
    if part is None:
        return []
    return [
        [
            row["step"],
            f"{row['seconds']:.1f} s",
            f"{row['sent']:,}",
            str(row["failed"]),
            str(row["wrong"]),
            *(f"{row['versions'].get(part[one], 0):,}" for one in ("a", "b")),
            *(f"{seconds * 1000:.0f} ms" for seconds in row["p95"]),
        ]
        for row in part["steps"]
    ]


def _broken(rows: list[dict[str, Any]]) -> str:
    heads = ["broken version", "refused after", "because", "requests meanwhile", "failed", "wrong"]
    return report.table(
        heads,
        (
            [
                row["version"],
                f"{row['seconds']:.0f} s",
                row["why"],
                f"{row['sent']:,}",
                str(row["failed"]),
                str(row["wrong"]),
            ]
            for row in rows
        ),
    )


def _shares(rows: list[dict[str, Any]]) -> str:
    heads = ["canary's share", "requests", "answered by it", "off by", "failed", "wrong"]
    return report.table(
        heads,
        (
            [
                f"{row['set']} %",
                f"{row['sent']:,}",
                f"{row['share']:.2f} %",
                f"{abs(row['share'] - row['set']):.2f} points",
                str(row["failed"]),
                str(row["wrong"]),
            ]
            for row in rows
        ),
    )


def _memory(weighed: list[dict[int, int]]) -> str:
    first, last = weighed[0], weighed[-1]
    shown = sorted({0, *range(4, len(weighed), 5), len(weighed) - 1})
    heads = ["resident MB after swap", *(str(number + 1) for number in shown), "growth"]
    rows = [
        [
            f"worker {place}",
            *(f"{weighed[number][pid] / MB:.0f}" for number in shown),
            f"{last[pid] / first[pid] - 1:+.1%}",
        ]
        for place, pid in enumerate(first, 1)
    ]
    return report.table(heads, rows)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versions")
    parser.add_argument("--only", choices=PARTS, action="append", help="may be given repeatedly")
    parser.add_argument("--model", choices=twins.MODELS, default="minilm", help="that is swapped")
    parser.add_argument(
        "--memory-model", choices=twins.MODELS, default="tiny", help="for share and memory"
    )
    parser.add_argument("--users", type=int, default=64)
    parser.add_argument("--quiet", type=float, default=10.0, help="seconds between two changes")
    parser.add_argument("--requests", type=int, default=10_000, help="for a canary's share")
    parser.add_argument("--swaps", type=int, default=20, help="for memory")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    with tempfile.TemporaryDirectory(prefix="velo-bench-") as name:
        folder = Path(name)
        twins.set_up(folder / "here")
        bench = Bench(folder, chosen)
        found = {part: getattr(bench, part)() for part in chosen.only or PARTS}
    report.write("versions", found, summary(found))
    bad = sum(part.get("failed", 0) + part.get("wrong", 0) for part in found.values())
    if bad:
        raise SystemExit(f"{bad} requests failed or were answered wrong; see versions.json")


if __name__ == "__main__":
    main()

"""How fast answers come over HTTP, with everything on this one machine, the callers included.

`python -m benchmarks.serve` loads Velo with one worker and with two, and the same project with
stock RQ's worker, and computes with the model alone before, between and after; writes serve.json,
serve.md and serve.png into var/benchmarks.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from benchmarks import loads, report
from tests.stack import ROOT, environment

CALLERS = (1, 16, 64, 256)
SECONDS = 6.0
SERVERS = {
    "Velo, 1 worker": lambda knobs: loads.velo(1, **knobs),
    "Velo, 2 workers": lambda knobs: loads.velo(2, **knobs),
    "stock SimpleWorker": lambda knobs: loads.stock(**knobs),
}


def ceiling(what: str, knobs: dict[str, object]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="velo-bench-") as folder:
        secrets = {"DJANGO_SECRET_KEY": "of a benchmark", "DJANGO_ALLOWED_HOSTS": "localhost"}
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.ceiling", what],
            cwd=ROOT,
            env=environment(Path(folder), **secrets, **knobs),
            stdout=subprocess.PIPE,
            check=True,
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(knobs: dict[str, object]) -> dict[str, Any]:
    # The machine's speed drifts: the ceilings are taken around every server.
    torch, engine = [ceiling("torch", knobs)], [ceiling("engine", knobs)]
    served = {}
    for name, start in SERVERS.items():
        with start(knobs) as running:
            served[name] = [loads.load(running, callers, SECONDS).to_json() for callers in CALLERS]
        torch.append(ceiling("torch", knobs))
        engine.append(ceiling("engine", knobs))
    return {"torch": torch, "engine": engine, "served": served}


def summary(model: str, found: dict[str, Any]) -> str:
    yardstick = statistics.mean(one["rate"] for one in found["torch"])
    engine = statistics.mean(one["rate"] for one in found["engine"])
    alone = statistics.mean(one["alone"] for one in found["engine"])
    spread = [f"{bound(one['rate'] for one in found['torch']):.0f}" for bound in (min, max)]
    rows = [
        ["*torch fp32 alone, batches of 32*", "", f"{yardstick:.0f}", "1.00", "", "", "", ""],
        ["*Velo's engine alone*", "", f"{engine:.0f}", f"{engine / yardstick:.2f}", "", "", "", ""],
    ]
    for name, several in found["served"].items():
        for one in several:
            times = [f"{one[which] * 1000:.1f}" for which in ("p50", "p95", "p99")]
            rate, times_torch = f"{one['rate']:.0f}", f"{one['rate'] / yardstick:.2f}"
            rows.append([name, str(one["callers"]), rate, times_torch, *times, str(one["errors"])])
    heads = ["", "callers", "requests/s", "× torch", "p50 ms", "p95 ms", "p99 ms", "errors"]

    def at(server: str, callers: int) -> dict[str, Any]:
        return found["served"][server][CALLERS.index(callers)]

    ours = [name for name in SERVERS if name.startswith("Velo")]
    best = max(ours, key=lambda name: at(name, 64)["rate"])
    quickest = min(ours, key=lambda name: at(name, 1)["p50"])
    most = at(best, 64)
    lines = [
        f"### {model}\n\n{report.table(heads, rows)}\n",
        f"- The engine: {found['engine'][0]['chosen']}.",
        f"- The yardstick, torch alone, moved between {spread[0]} and {spread[1]} during the run.",
        (
            f"- 64 callers, {best}: {most['rate'] / yardstick:.2f} times torch alone, "
            f"{most['rate'] / at('stock SimpleWorker', 64)['rate']:.1f} times the stock worker; "
            f"p99 is {most['p99'] / most['p50']:.1f} times p50."
        ),
        (
            f"- 1 caller, {quickest}: p50 {at(quickest, 1)['p50'] * 1000:.1f} ms, "
            f"{(at(quickest, 1)['p50'] - alone) * 1000:.1f} ms above the engine's own "
            f"{alone * 1000:.1f} ms for one text."
        ),
        "- Processor time a request there, in ms: "
        + ", ".join(f"{kind} {taken * 1000:.2f}" for kind, taken in most["cpu"].items())
        + ".",
    ]
    return "\n".join(lines)


def plot(found: dict[str, Any]) -> None:
    figure, axes = plt.subplots(1, len(found), figsize=(11, 4.5), layout="constrained")
    for axis, (model, one) in zip(axes, found.items(), strict=True):
        for name, several in one["served"].items():
            axis.plot(CALLERS, [each["rate"] for each in several], marker="o", label=name)
        yardstick = statistics.mean(each["rate"] for each in one["torch"])
        axis.axhline(yardstick, color="grey", linestyle="--", label="torch fp32 alone")
        axis.set_xscale("log", base=2)
        axis.set_xticks(CALLERS, [str(callers) for callers in CALLERS])
        axis.set_ylim(bottom=0)
        axis.set_title(model)
        axis.set_xlabel("callers at a time")
        axis.set_ylabel("requests a second")
        axis.grid(alpha=0.3)
        axis.legend(loc="lower right")
    figure.savefig(report.OUT / "serve.png", dpi=110)


def main() -> None:
    with loads.served_models() as models:
        found = {name: measure(knobs) for name, knobs in models.items()}
    report.write("serve", found, "\n\n".join(summary(*item) for item in found.items()))
    plot(found)


if __name__ == "__main__":
    main()

"""What batches gain in throughput and cost in latency: batch size against wait.

`python -m benchmarks.curve` loads one worker with 64 callers, for every size and wait, and writes
curve.json, curve.md and curve.png into var/benchmarks.
"""

from typing import Any

import matplotlib.pyplot as plt

from benchmarks import loads, report

SIZES = (1, 2, 4, 8, 16, 32, 64)
WAITS = (0, 2, 5, 10, 20)  # milliseconds
CALLERS = 64
SECONDS = 4.0


def measure() -> list[dict[str, Any]]:
    found = []
    for size in SIZES:
        for wait in WAITS:
            with loads.velo(1, VELO_BATCH_MAX=size, VELO_BATCH_WAIT_MS=wait) as running:
                one = loads.load(running, CALLERS, SECONDS).to_json()
                [worker] = running.get("/stat").json["workers"].values()
                found.append({"size": size, "wait": wait, "batches": worker["batches"], **one})
                # Alone, a caller waits for nobody but is made to.
                found[-1]["alone"] = loads.load(running, 1, 2.0).p50
    return found


def summary(found: list[dict[str, Any]]) -> str:
    heads = ["at most", "wait ms", "requests/s", "p50 ms", "p95 ms", "mean batch", "padding"]
    heads += ["p50 ms of one caller alone", "errors"]
    rows = [
        [
            str(one["size"]),
            str(one["wait"]),
            f"{one['rate']:.0f}",
            f"{one['p50'] * 1000:.0f}",
            f"{one['p95'] * 1000:.0f}",
            f"{one['batches']['mean_size']:.1f}",
            f"{one['batches']['padding']:.0%}",
            f"{one['alone'] * 1000:.1f}",
            str(one["errors"]),
        ]
        for one in found
    ]
    return report.table(heads, rows)


def plot(found: list[dict[str, Any]]) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.8), layout="constrained")
    for axis, which in zip(axes, ("p50", "p95"), strict=False):
        for wait in WAITS:
            line = [one for one in found if one["wait"] == wait]
            times = [one[which] * 1000 for one in line]
            rates = [one["rate"] for one in line]
            axis.plot(times, rates, marker="o", label=f"wait {wait} ms")
            if wait == 0:
                for time, one in zip(times, line, strict=True):
                    axis.annotate(
                        str(one["size"]),
                        (time, one["rate"]),
                        textcoords="offset points",
                        xytext=(6, 6),
                    )
        axis.set_xlabel(f"{which}, milliseconds")
        axis.set_ylabel("requests a second")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].set_title(f"{CALLERS} callers (up and left is better)")
    axes[1].set_title(f"{CALLERS} callers")
    axes[1].legend(title="numbers: texts in a\nbatch, at most")
    largest = [one for one in found if one["size"] == SIZES[-1]]
    axes[2].plot(WAITS, [one["alone"] * 1000 for one in largest], marker="o")
    axes[2].set_title("one caller alone: what it pays for the wait")
    axes[2].set_xlabel("wait, milliseconds")
    axes[2].set_ylabel("p50, milliseconds")
    axes[2].set_ylim(bottom=0)
    axes[2].grid(alpha=0.3)
    figure.suptitle("all-MiniLM-L6-v2, one worker")
    figure.savefig(report.OUT / "curve.png", dpi=110)


def main() -> None:
    found = measure()
    report.write("curve", found, summary(found))
    plot(found)


if __name__ == "__main__":
    main()

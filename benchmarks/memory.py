"""Whether a worker grows: its resident memory after 1,000 requests and after 100,000.

`python -m benchmarks.memory` loads one worker with 64 callers; writes memory.json and memory.md
into var/benchmarks.
"""

from typing import Any

from benchmarks import loads, report
from tests.stack import resident_megabytes

COUNTS = (1_000, 10_000, 100_000)
CALLERS = 64


def measure(knobs: dict[str, object]) -> list[dict[str, Any]]:
    found = []
    answered, rate = 0, 1000.0
    with loads.velo(1, **knobs) as running:
        [worker] = running.pids("rqworker")
        for count in COUNTS:
            while answered < count:
                # In several goes, since the rate isn't known beforehand.
                one = loads.load(running, CALLERS, max(0.5, (count - answered) / rate))
                answered += one.answered
                rate = one.rate
            found.append({"requests": answered, "megabytes": resident_megabytes(worker)})
    return found


def summary(found: list[dict[str, Any]]) -> str:
    rows = [[f"{one['requests']:,}", f"{one['megabytes']:.0f}"] for one in found]
    growth = found[-1]["megabytes"] / found[0]["megabytes"] - 1
    lines = [report.table(["requests", "resident MB of the worker"], rows), ""]
    return "\n".join([*lines, f"It grew by {growth:.1%}."])


def main() -> None:
    with loads.served_models() as models:
        found = measure(models["rubert-tiny2-shaped"])
    report.write("memory", found, summary(found))


if __name__ == "__main__":
    main()

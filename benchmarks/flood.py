"""What 1,000 refused clients cost those who are let in, and how soon they are refused.

`python -m benchmarks.flood` loads one worker with 64 callers, alone and beside 1,000 clients of one
address whose share is one input, in turn; writes flood.json and flood.md into var/benchmarks.
`... flood PORT CLIENTS SECONDS` is those clients, who do as they are told: each asks again after
Retry-After. It prints JSON. (Linux only: elsewhere not all of 127.0.0.0/8 is this machine.)
"""

import asyncio
import json
import random
import re
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks import load, loads, report
from tests.stack import ROOT, Stack

CALLERS, CLIENTS = 64, 1000
ROUNDS = 3
SECONDS = 6.0
ARRIVING = 2.0  # seconds until all the clients are there
RETRY = re.compile(rb"retry-after: (\d+)", re.IGNORECASE)
REQUEST = (
    b"POST /transform HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b'Content-Length: 7\r\n\r\n"flood"'
)


class Client(asyncio.Protocol):
    """One connection that asks, and asks again when it may."""

    def __init__(self, found: dict[str, Any]) -> None:
        self._found = found
        self._received = b""
        self._asked = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        length = load.LENGTH.search(self._received, 0, head)
        if head < 0 or length is None or len(self._received) - head - 4 < int(length[1]):
            return
        again = 0
        if self._received.startswith(b"HTTP/1.1 429"):
            self._found["refused"].append(time.perf_counter() - self._asked)
            told = RETRY.search(self._received, 0, head)
            assert told, self._received
            again = int(told[1])
        elif self._received.startswith(b"HTTP/1.1 200"):
            self._found["accepted"] += 1
        else:
            self._found["errors"] += 1
        self._received = b""
        asyncio.get_running_loop().call_later(again, self._ask)

    def connection_lost(self, error: Exception | None) -> None:
        self._found["errors"] += not self._found["over"]


async def clients(port: int, count: int, seconds: float) -> dict[str, Any]:
    found: dict[str, Any] = {"refused": [], "accepted": 0, "errors": 0, "over": False}
    loop, chance = asyncio.get_running_loop(), random.Random(1)

    async def come() -> None:
        await asyncio.sleep(chance.uniform(0, ARRIVING))
        await loop.create_connection(lambda: Client(found), "127.0.0.1", port)

    await asyncio.gather(*(come() for _ in range(count)))
    print("all there", flush=True)
    found["refused"].clear()
    await asyncio.sleep(seconds)
    found["over"] = True
    return {**found, "refused": sorted(found["refused"])}


def one_round(velo: Stack) -> dict[str, Any]:
    alone = loads.load(velo, CALLERS, SECONDS, "--apart").to_json()
    lasts = load.WARM_UP + SECONDS + 1.0
    words = [sys.executable, "-m", "benchmarks.flood", str(velo.port), str(CLIENTS), str(lasts)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE) as flood:
        assert flood.stdout
        flood.stdout.readline()
        beside = loads.load(velo, CALLERS, SECONDS, "--apart").to_json()
        found = json.loads(flood.stdout.read())
    refused = found.pop("refused")
    quantiles = {
        name: refused[int(share * len(refused))] for name, share in (("p50", 0.5), ("p99", 0.99))
    }
    rate = len(refused) / lasts
    return {"alone": alone, "beside": beside, "flood": {**found, **quantiles, "rate": rate}}


def summary(found: list[dict[str, Any]]) -> str:
    def median(who: str, what: str) -> float:
        return statistics.median(one[who][what] for one in found)

    rows = [
        [
            name,
            f"{median(who, 'rate'):.0f}",
            f"{median(who, 'p50') * 1000:.1f}",
            f"{median(who, 'p95') * 1000:.1f}" if who != "flood" else "",
            f"{median(who, 'p99') * 1000:.1f}",
            f"{sum(one[who]['errors'] for one in found)}",
        ]
        for name, who in (
            (f"{CALLERS} callers alone", "alone"),
            (f"{CALLERS} callers beside {CLIENTS:,} refused clients", "beside"),
            ("refusals", "flood"),
        )
    ]
    heads = [f"median of {ROUNDS} rounds", "a second", "p50 ms", "p95 ms", "p99 ms", "errors"]
    lines = [report.table(heads, rows), ""]
    for what in ("p50", "p95"):
        ratios = sorted(one["beside"][what] / one["alone"][what] for one in found)
        lines.append(
            f"- {what} beside them: {statistics.median(ratios):.2f} times that alone "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f})."
        )
    return "\n".join(lines)


def main() -> None:
    with loads.velo(1, VELO_CLIENT_MAX=1) as running:
        found = [one_round(running) for _ in range(ROUNDS)]
    report.write("flood", found, summary(found))


if __name__ == "__main__":
    if sys.argv[1:]:
        port, count, seconds = sys.argv[1:]
        print(json.dumps(asyncio.run(clients(int(port), int(count), float(seconds)))))
    else:
        main()

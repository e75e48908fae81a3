"""Callers of POST /transform, each on a connection of its own, each asking again when it has its
answer: a closed loop, in a process of its own.

`python -m benchmarks.load PORT CALLERS SECONDS` prints JSON: how many answers came, how many were
wrong, and their times in seconds. With `--apart` each has an address of its own (on Linux). Another
server is asked with `--path` and with `--body`, in which %s stands for the text's JSON; with
`--texts` for an array of as many texts. `--key`: an API key that each request carries.
"""

import argparse
import asyncio
import json
import random
import re
import time
from collections.abc import Iterator
from typing import Any

DIFFERENT = 20  # bodies, of many texts each
WARM_UP = 2.0  # seconds of the same load before anything counts
COMMAS = 30  # at least, in an answer
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
WORDS = (
    "time year people way day man thing woman life child world school state family student "
    "group country problem hand part place case week company system program question work "
    "government number night point home water room mother area money story fact month lot right "
    "study book eye job word business issue side kind head house service friend father power "
    "hour game line end member law car city community name president team minute idea body "
    "information back parent face others level office door health person art war history party "
    "result change morning reason research girl guy moment air teacher force education is was "
    "has would could make know take see come think look want give use find tell ask seem feel "
    "try leave call the of and a to in it you that he for on are with as they be at this from "
    "have or by one had not"
)


def sentences(count: int = 200, seed: int = 1) -> list[str]:
    """English ones of 5 to 40 words."""
    chance = random.Random(seed)
    words = WORDS.split()
    return [" ".join(chance.choices(words, k=chance.randint(5, 40))) for _ in range(count)]


class Caller(asyncio.Protocol):
    """One connection that never pauses."""

    def __init__(self, requests: Iterator[bytes], found: "Found") -> None:
        self._requests = requests
        self._found = found
        self._received = b""
        self._asked = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        if head < 0:
            return
        length = LENGTH.search(self._received, 0, head)
        body = self._received[head + 4 :]
        if length and len(body) < int(length[1]):
            return
        # Of a vector, or of many in base64.
        right = self._received.startswith(b"HTTP/1.1 200") and body.count(b",") > COMMAS
        self._found.add(time.perf_counter() - self._asked, right)
        self._received = b""
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        self._found.lost += not self._found.over


class Found:
    def __init__(self) -> None:
        self.times: list[float] = []
        self.wrong = self.lost = 0
        self.counting = self.over = False
        self.all = 0

    def add(self, seconds: float, right: bool) -> None:
        self.all += 1
        if self.counting:
            self.times.append(seconds)
            self.wrong += not right


async def run(
    port: int,
    callers: int,
    seconds: float,
    *,
    apart: bool = False,
    path: str = "/transform",
    body: str = "%s",
    texts: int = 0,
    key: str = "",
) -> dict[str, Any]:
    chance = random.Random(callers)
    known = sentences()
    given = [chance.choices(known, k=texts) for _ in range(DIFFERENT)] if texts else known
    bodies = [(body % json.dumps(one)).encode() for one in given]

    authorization = f"Authorization: Bearer {key}\r\n" if key else ""

    def requests() -> Iterator[bytes]:
        while True:
            content = chance.choice(bodies)
            yield (
                b"POST %b HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b"
            ) % (path.encode(), authorization.encode(), len(content), content)

    found = Found()
    loop = asyncio.get_running_loop()
    opened = [
        await loop.create_connection(
            lambda: Caller(requests(), found),
            "127.0.0.1",
            port,
            local_addr=(f"127.0.1.{number}", 0) if apart else None,
        )
        for number in range(1, callers + 1)
    ]
    await asyncio.sleep(WARM_UP)
    found.counting, started = True, time.perf_counter()
    await asyncio.sleep(seconds)
    found.counting, took = False, time.perf_counter() - started
    found.over = True
    for transport, _ in opened:
        transport.abort()
    return {
        "seconds": took,
        "errors": found.wrong + found.lost,
        "times": sorted(found.times),
        "all": found.all,  # answers, those of the warm-up too
        "processor": time.process_time(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("callers", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--path", default="/transform")
    parser.add_argument("--body", default="%s")
    parser.add_argument("--texts", type=int, default=0)
    parser.add_argument("--key", default="")
    print(json.dumps(asyncio.run(run(**vars(parser.parse_args())))))

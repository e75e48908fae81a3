"""Callers who ask without a pause and check every answer: the load under which faults happen."""

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass
from http.client import BadStatusLine, HTTPConnection, HTTPException
from itertools import count
from types import TracebackType
from typing import Any

import numpy

from tests.stack import Stack
from workers.predictors.sleep import vector

# Milliseconds for each text. Slow, so that the model holds the load up and not the processor: a
# worker always has jobs in hand, and the processes that a test starts meanwhile start soon.
SLOW = 20
NO_ANSWER = 60.0  # seconds after which a request counts as lost
RIGHT, WRONG, LOST = "right", "wrong", "lost"
CUT = "connection cut"  # or refused: the web process is gone


@dataclass(frozen=True)
class Asked:
    """One request, and how it ended: RIGHT, WRONG, LOST, CUT, or the code of an error."""

    text: str
    began: float  # by time.monotonic
    seconds: float
    outcome: str
    version: str = ""  # that answered, as the header says


class Load:
    """While this context lasts, `callers` ask at once, each for another text each time.

    At its end those that wait are waited for.
    """

    def __init__(self, velo: Stack, callers: int = 16) -> None:
        self.port = velo.port
        self.asked: list[Asked] = []
        self._numbers = count()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(callers)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def outcomes(self) -> Counter[str]:
        return Counter(one.outcome for one in list(self.asked))

    def right(self) -> int:
        return self.outcomes[RIGHT]

    def _call(self) -> None:
        http = HTTPConnection("127.0.0.1", self.port, timeout=NO_ANSWER)
        while not self._over.is_set():
            one = self.ask(http, next(self._numbers))
            self.asked.append(one)
            if one.outcome != RIGHT:
                http.close()
                self._over.wait(0.05)
        http.close()

    def ask(self, http: HTTPConnection, number: int) -> Asked:
        text, began = f"text {number}", time.monotonic()
        outcome = ask(http, text)
        return Asked(text, began, time.monotonic() - began, outcome)


def ask(http: HTTPConnection, text: str) -> str:
    """The outcome of one request."""
    outcome, _, body = post(http, "/transform", text)
    if outcome != RIGHT:
        return outcome
    right = vector(text)
    same = numpy.shape(body) == right.shape and numpy.allclose(body, right, atol=1e-6)
    return RIGHT if same else WRONG


def post(http: HTTPConnection, path: str, text: str) -> tuple[str, str, Any]:
    """RIGHT where it is answered, else how it failed; the version that answered; the answer."""
    try:
        http.request("POST", path, json.dumps(text).encode(), {"Content-Type": "application/json"})
        response = http.getresponse()
        body = json.loads(response.read())
    except (ConnectionError, BadStatusLine):
        return CUT, "", None
    except (OSError, HTTPException, ValueError):
        return LOST, "", None
    if response.status != 200:
        return str(body["code"]), "", body
    return RIGHT, response.headers["X-Velo-Model-Version"], body

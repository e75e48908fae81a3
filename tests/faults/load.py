"""Callers who ask without a pause and check every answer: the load under which faults happen."""

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass
from http.client import BadStatusLine, HTTPConnection, HTTPException
from itertools import count
from types import TracebackType

import numpy

from tests.stack import Stack
from workers.predictors.sleep import vector

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
            text, began = f"text {next(self._numbers)}", time.monotonic()
            outcome = ask(http, text)
            self.asked.append(Asked(text, began, time.monotonic() - began, outcome))
            if outcome != RIGHT:
                http.close()
                self._over.wait(0.05)
        http.close()


def ask(http: HTTPConnection, text: str) -> str:
    """The outcome of one request."""
    try:
        http.request(
            "POST", "/transform", json.dumps(text).encode(), {"Content-Type": "application/json"}
        )
        response = http.getresponse()
        body = json.loads(response.read())
    except (ConnectionError, BadStatusLine):
        return CUT
    except (OSError, HTTPException, ValueError):
        return LOST
    if response.status != 200:
        return str(body["code"])
    right = vector(text)
    same = numpy.shape(body) == right.shape and numpy.allclose(body, right, atol=1e-6)
    return RIGHT if same else WRONG

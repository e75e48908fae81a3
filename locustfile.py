"""The load test: people who embed texts, people who watch, and some who get it wrong.

`make load`, then http://localhost:8989; or without a page:
`locust --headless --users 64 --spawn-rate 16 --run-time 1m`.
"""

import math
import random
from typing import Any

from locust import HttpUser, between, task

RUSSIAN = "съешь ещё этих мягких французских булок да выпей чаю в чащах юга жил бы цитрус да но"
ENGLISH = "the quick brown fox jumps over the lazy dog while five boxing wizards look on and wait"
BAD_INPUT = (
    # body, content type, the status it must get
    ("not json", "application/json", 400),
    ("", "application/json", 400),
    ("{}", "application/json", 400),
    ('"   "', "application/json", 400),
    ('"\\ud800"', "application/json", 400),
    ('"a text"', "text/plain", 415),
)


def sentence(shortest: int, longest: int) -> str:
    words = random.choice((RUSSIAN, ENGLISH)).split()
    return " ".join(random.choices(words, k=random.randint(shortest, longest))).capitalize() + "."


class Embedder(HttpUser):
    """Sends texts, mostly short, and looks at what comes back."""

    weight = 20
    wait_time = between(0.0, 0.2)

    @task(16)
    def short_text(self) -> None:
        self._embed(sentence(3, 12), "short text")

    @task(4)
    def long_text(self) -> None:
        self._embed(sentence(60, 200), "long text")

    @task(1)
    def bad_input(self) -> None:
        body, content_type, status = random.choice(BAD_INPUT)
        with self._post(body, content_type, "bad input") as response:
            if response.status_code == status:
                response.success()
            else:
                response.failure(f"{response.status_code} instead of {status}")

    def _embed(self, text: str, name: str) -> None:
        with self.client.post(
            "/transform", json=text, name=f"/transform ({name})", catch_response=True
        ) as response:
            if response.status_code != 200:
                response.failure(f"{response.status_code}: {response.text[:200]}")
            elif not _is_embedding(response.json()):
                response.failure("the answer isn't a unit vector")

    def _post(self, body: str, content_type: str, name: str) -> Any:
        return self.client.post(
            "/transform",
            data=body.encode(),
            headers={"Content-Type": content_type},
            name=f"/transform ({name})",
            catch_response=True,
        )


class Watcher(HttpUser):
    """Looks at /stat every few seconds, as a dashboard would."""

    weight = 1
    wait_time = between(2, 5)

    @task
    def stat(self) -> None:
        self.client.get("/stat")


def _is_embedding(answer: Any) -> bool:
    return isinstance(answer, list) and math.isclose(math.hypot(*answer), 1.0, abs_tol=1e-3)

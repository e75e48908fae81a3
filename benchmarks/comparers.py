"""The locust file of benchmarks.versions: callers who hold each answer against the references.

VELO_REFERENCES names what benchmarks.twins has written, VELO_ANSWERS the file to which each answer
adds a line: see Answer in benchmarks.answers.
"""

import json
import os
import random
import time
from pathlib import Path

import numpy
from locust import FastHttpUser, between, task

REFERENCES = numpy.load(os.environ["VELO_REFERENCES"])
TEXTS = [str(text) for text in REFERENCES["texts"]]
VECTORS = {label: REFERENCES[label] for label in REFERENCES.files if label != "texts"}
# Line by line, since it is read meanwhile.
OUT = Path(os.environ["VELO_ANSWERS"]).open("a", buffering=1)  # noqa: SIM115
JSON = {"Content-Type": "application/json"}


class Comparer(FastHttpUser):
    """Pauses as the callers of locustfile.py do."""

    wait_time = between(0.0, 0.2)

    @task
    def ask(self) -> None:
        number = random.randrange(len(TEXTS))
        began, started = time.monotonic(), time.perf_counter()
        with self.client.post(
            "/transform", data=json.dumps(TEXTS[number]), headers=JSON, catch_response=True
        ) as response:
            seconds = time.perf_counter() - started
            label = response.headers.get("X-Velo-Model-Version", "") if response.headers else ""
            if response.status_code == 200:
                own, other = distances(number, label, response.content)
                response.success()
            else:
                own = other = None
                label = f"{response.status_code} {response.text}"[:300]
                response.failure(label)
        line = [began, seconds, response.status_code == 200, label, own, other]
        OUT.write(json.dumps(line) + "\n")


def distances(number: int, label: str, body: bytes) -> tuple[float | None, float | None]:
    """The greatest difference of a component to the reference of the version that the header names,
    None without one; and to the nearest one of another version."""
    answer = numpy.array(json.loads(body))
    found = {name: float(abs(vectors[number] - answer).max()) for name, vectors in VECTORS.items()}
    return found.pop(label, None), min(found.values(), default=None)

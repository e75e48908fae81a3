"""A model for tests of workers: what it is given can be read off its answers and its calls."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from rq.job import Job

from workers import predictors
from workers.broker.connection import connection, queue
from workers.broker.names import QUEUE
from workers.runtime.worker import InferenceWorker


class Letters:
    """A model whose answer is the text's letters: it shows whose answer is whose. It raises for a
    text with "bad", as no real model does on demand."""

    spec = predictors.Spec("letters", "1", "custom")
    kind = "custom"
    dimensions, engine_chosen, call_tokens = 2, "none", 48
    facts: Mapping[str, Any] = MappingProxyType({})

    def __init__(self) -> None:
        self.batches: list[list[str]] = []  # the texts of each call
        self.before: Any = lambda: None
        self.outputs_missing = 0

    @property
    def calls(self) -> list[int]:
        """How many texts each call had."""
        return [len(batch) for batch in self.batches]

    def encode(self, texts: Any, parameters: Any = None) -> list[predictors.Encoded]:
        if any("unreadable" in text for text in texts):
            raise ValueError("unreadable")
        if parameters and any("long" in text for text in texts):
            raise predictors.InputError("too long for its parameters")
        if parameters and "output" in parameters:
            return [
                predictors.Encoded((), 1, False, answer=[ord(one) for one in text])
                for text in texts
            ]
        return [predictors.Encoded(text, len(text), truncated=False) for text in texts]

    def predict(self, batch: Any) -> Any:
        self.batches.append([one.ids for one in batch])
        self.before()
        if any("bad" in one.ids for one in batch):
            raise ValueError("bad")
        vectors = [[float(ord(letter)) for letter in one.ids] for one in batch]
        return vectors[self.outputs_missing :]

    def warm_up(self) -> None: ...

    def use_threads(self, threads: int) -> None: ...


def work(*names: str, name: str | None = None) -> InferenceWorker:
    """A worker of these queues in this process, until nothing is left to do."""
    queues = [queue(name) for name in names or (QUEUE,)]
    worker = InferenceWorker(queues, name=name, connection=connection())
    worker.work(burst=True)
    return worker


def answer(job: Job) -> str:
    """The text that was answered."""
    value = job.return_value(refresh=True)
    assert value is not None
    return "".join(chr(int(number)) for number in value["output"])

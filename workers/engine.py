"""A model in a worker's memory: loaded once, warmed up, timed."""

import time
from collections import deque
from collections.abc import Sequence
from typing import cast

from workers import predictors
from workers.jobs import Prediction
from workers.latency import Recorder
from workers.models import LatencySample

TIMES_KEPT = 1000


class Engine:
    """Answers one text at a time with the predictor it holds."""

    def __init__(self, predictor: predictors.Predictor, worker: str, recorder: Recorder) -> None:
        self.predictor = predictor
        self.label = f"{predictor.name}@{predictor.version}"
        self._worker = worker
        self._recorder = recorder
        self._times: deque[float] = deque(maxlen=TIMES_KEPT)
        self._threads = 0
        self.queue_time = 0.0  # seconds the job in hand has waited

    def use_threads(self, threads: int) -> None:
        if threads != self._threads:
            self.predictor.use_threads(threads)
            self._threads = threads

    def infer(self, text: str) -> Prediction:
        started = time.perf_counter()
        [output] = self.predictor.predict([text])
        model_time = time.perf_counter() - started
        self._times.append(model_time)
        self._recorder.record(LatencySample.Stage.QUEUE, self.label, self.queue_time)
        self._recorder.record(LatencySample.Stage.MODEL, self.label, model_time)
        return Prediction(
            embedding=cast(Sequence[float], output.vector),
            model_version=self.label,
            worker=self._worker,
            tokens=output.tokens,
            truncated=output.truncated,
            queue_time=self.queue_time,
            model_time=model_time,
        )

    def model_time(self) -> float | None:
        """Mean seconds in the model over the last 1000 calls; None before the first."""
        times = list(self._times)
        return sum(times) / len(times) if times else None

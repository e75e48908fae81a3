"""A model in a worker's memory: called in batches, timed, its failures narrowed down."""

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, cast

import numpy
from rq.timeouts import JobTimeoutException

from workers import predictors
from workers.metrics import counters
from workers.metrics.latency import Recorder
from workers.models import LatencySample
from workers.predictors import KINDS, NO_PARAMETERS, Encoded, Parameters
from workers.values.figures import BatchFigures
from workers.values.prediction import Prediction

TIMES_KEPT = 1000
MICROSECONDS = 6  # decimals of a time that is sent
Raised = tuple[type[BaseException], BaseException, TracebackType | None]
Guard = Callable[[], AbstractContextManager[object]]


class NotFinite(Exception):
    """The predictor gave infinity or no number at all, which JSON can't say."""


class TookTooLong(Exception):
    """A model call took longer than its jobs may."""


class WrongNumber(Exception):
    """The predictor gave more or fewer outputs than it got inputs: nobody knows whose is whose."""


def _finite(output: Any) -> bool:
    """Every number in it."""
    match output:
        case numpy.ndarray():
            return bool(numpy.isfinite(output).all())
        case float() | numpy.floating():
            return math.isfinite(output)
        case dict():
            return all(map(_finite, output.values()))
        case list() | tuple():
            return all(map(_finite, output))
    return True


@dataclass(frozen=True)
class Output:
    """The model's answer to one input."""

    encoded: Encoded
    value: Any  # a vector, or what JSON can say
    seconds: float  # that the model call took, for the whole batch


def told(encoded: Encoded) -> Output | None:
    """The answer that takes no model call, if this is such an input."""
    return None if encoded.answer is None else Output(encoded, encoded.answer, 0.0)


class Runner:
    """Answers inputs with the predictor it holds."""

    def __init__(self, predictor: predictors.Predictor, worker: str, recorder: Recorder) -> None:
        self.predictor = predictor
        self.label = predictor.spec.label
        self._worker = worker
        self._recorder = recorder
        self._times: deque[float] = deque(maxlen=TIMES_KEPT)
        self.batches = BatchFigures()
        self._threads = 0

    def use_threads(self, threads: int) -> None:
        """Compute with this many threads from now on."""
        if threads != self._threads:
            self.predictor.use_threads(threads)
            self._threads = threads

    def encode(
        self, inputs: Sequence[Any], parameters: Sequence[Parameters] | None = None
    ) -> list[Encoded | Raised]:
        """As many as inputs, or for an input that fails, its error. `parameters`: of each input.
        Any thread may do this while another computes."""
        if not parameters or not any(parameters):
            return self._encode(inputs, NO_PARAMETERS)
        found: dict[int, Encoded | Raised] = {}
        for number, these in enumerate(parameters):
            if number not in found:
                alike = [other for other, one in enumerate(parameters) if one == these]
                encoded = self._encode([inputs[one] for one in alike], these)
                found |= zip(alike, encoded, strict=True)
        return [found[number] for number in range(len(inputs))]

    def _encode(self, inputs: Sequence[Any], parameters: Parameters) -> list[Encoded | Raised]:
        try:
            return list(self.predictor.encode(inputs, parameters))
        except Exception:  # noqa: BLE001 - whatever a model raises is the answer to its input
            if len(inputs) == 1:
                return [cast(Raised, sys.exc_info())]
        return [one for given in inputs for one in self._encode([given], parameters)]

    def answers(self, batch: Sequence[Encoded], guard: Guard) -> list[Output | Raised]:
        """Of one model call: as many as inputs, each an output or what it raised.

        `guard` makes a context for a call, in which it raises JobTimeoutException when the call
        takes too long; then raises TookTooLong. Where a call raises anything else, the batch is
        halved until the inputs that are to blame stand alone.
        """
        try:
            with guard():
                return list(self._call(batch))
        except JobTimeoutException as error:
            raise TookTooLong from error
        except Exception:  # noqa: BLE001 - as above
            if len(batch) == 1:
                return [cast(Raised, sys.exc_info())]
        half = len(batch) // 2
        return self.answers(batch[:half], guard) + self.answers(batch[half:], guard)

    def _call(self, batch: Sequence[Encoded]) -> list[Output]:
        started = time.perf_counter()
        values = self.predictor.predict(batch)
        if len(values) != len(batch):
            raise WrongNumber(f"{len(batch)} inputs, but {len(values)} outputs")
        if not all(map(_finite, values)):
            raise NotFinite("The model's output has numbers that are infinite or not numbers")
        seconds = time.perf_counter() - started
        times = [seconds] * len(batch)
        self._times += times
        tokens = [encoded.tokens for encoded in batch]
        self.batches.add(tokens)
        padding = 1 - sum(tokens) / max(1, len(batch) * max(tokens))
        count = self._recorder.counters.observe
        count(counters.BATCH_INPUTS, self.label, values=[len(batch)])
        count(counters.BATCH_PADDING, self.label, values=[padding])
        self._recorder.record(LatencySample.Stage.MODEL, self.label, *times)
        return [Output(one, value, seconds) for one, value in zip(batch, values, strict=True)]

    def infer(self, given: Any, parameters: Parameters = NO_PARAMETERS) -> Prediction:
        """One input, outside any batch."""
        [encoded] = self.predictor.encode([given], parameters)
        output = told(encoded) or self._call([encoded])[0]
        return self.prediction(output, queue_time=0.0)

    def compare(self, answered: Mapping[str, Any], output: Output) -> float:
        """How alike a shadow's output is to what the caller got (see NewJob), 0 to 1; recorded."""
        likeness = KINDS[self.predictor.kind].similarity(answered["output"], output.value)
        self._recorder.comparisons.add(self.label, answered["to"], likeness)
        return likeness

    def compare_failed(self, answered: Mapping[str, Any]) -> None:
        """Record that the shadow gave no answer."""
        self._recorder.comparisons.add(self.label, answered["to"], None)

    def record_failure(self) -> None:
        """An attempt of a job has raised."""
        self._recorder.counters.add(counters.FAILURES, self.label)

    def record_waits(self, waits: Sequence[float]) -> None:
        """Seconds that the jobs of a batch have been in the queue."""
        self._recorder.record(LatencySample.Stage.QUEUE, self.label, *waits)

    def prediction(self, output: Output, queue_time: float) -> Prediction:
        """As it is sent; `queue_time`: seconds that its job waited."""
        return Prediction(
            output=output.value,
            model_version=self.label,
            worker=self._worker,
            tokens=output.encoded.tokens,
            truncated=output.encoded.truncated,
            queue_time=round(queue_time, MICROSECONDS),
            model_time=round(output.seconds, MICROSECONDS),
        )

    def times(self) -> tuple[int, float]:
        """Of the last 1000 answers: how many there were, and their mean seconds in the model."""
        times = list(self._times)
        return len(times), sum(times) / len(times) if times else 0.0

    def model_time(self) -> float | None:
        """Mean seconds of a model call over the last 1000 answers; None before the first."""
        count, mean = self.times()
        return mean if count else None

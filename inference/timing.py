"""How long answers took: the header for the caller, the figures for the admin."""

import atexit
from collections.abc import Sequence
from functools import cache, partial

from workers.host.ticker import Ticker
from workers.metrics.latency import Recorder
from workers.models import LatencySample
from workers.values.prediction import Prediction

FLUSH_EVERY = 1.0  # seconds
LAST_FLUSH = 1.0  # seconds that the last flush may take, so that a database can't delay the end


class Timings:
    """A recorder, and the thread that empties it into the database until the process ends."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self._ticker = Ticker("latency", FLUSH_EVERY, self.recorder.flush)
        self._ticker.start()
        self._finish = partial(self._ticker.stop, last=self.recorder.flush, within=LAST_FLUSH)
        atexit.register(self._finish)

    def close(self) -> None:
        """End the thread. What it hasn't written by now stays unwritten."""
        atexit.unregister(self._finish)
        self._ticker.stop()


@cache
def timings() -> Timings:
    """This process's."""
    return Timings()


def record(prediction: Prediction, seconds: float) -> None:
    """`seconds` went by from HTTP in to HTTP out."""
    timings().recorder.record(LatencySample.Stage.RESPONSE, prediction.model_version, seconds)


def record_key(key: int) -> None:
    """An API key is used, by its row's primary key."""
    timings().recorder.use_key(key)


def record_failure(label: str) -> None:
    """A request that this version was to answer got an error."""
    timings().recorder.fail(label)


def server_timing(predictions: Sequence[Prediction], seconds: float) -> str:
    """The Server-Timing header (W3C), in milliseconds; of several inputs, the slowest counts."""
    stages = {
        "queue": max(one.queue_time for one in predictions),
        "model": max(one.model_time for one in predictions),
        "total": seconds,
    }
    return ", ".join(f"{name};dur={took * 1000:.1f}" for name, took in stages.items())

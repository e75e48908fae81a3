"""How long answers took: the header for the caller, the figures for the admin."""

import atexit
from functools import cache, partial

from workers.host.ticker import Ticker
from workers.metrics.latency import Recorder
from workers.models import LatencySample
from workers.values.prediction import Prediction

FLUSH_EVERY = 1.0  # seconds
LAST_FLUSH = 1.0  # seconds that the last flush may take, so that a database can't delay the end


@cache
def _recorder() -> Recorder:
    """This process's recorder, with the thread that empties it into the database."""
    recorder = Recorder()
    ticker = Ticker("latency", FLUSH_EVERY, recorder.flush)
    ticker.start()
    atexit.register(partial(ticker.stop, last=recorder.flush, within=LAST_FLUSH))
    return recorder


def record(prediction: Prediction, seconds: float) -> None:
    """`seconds` went by from HTTP in to HTTP out."""
    _recorder().record(LatencySample.Stage.RESPONSE, prediction.model_version, seconds)


def record_failure(label: str) -> None:
    """A request that this version was to answer got an error."""
    _recorder().fail(label)


def server_timing(prediction: Prediction, seconds: float) -> str:
    """The Server-Timing header (W3C), in milliseconds."""
    stages = {
        "queue": prediction.queue_time,
        "model": prediction.model_time,
        "total": seconds,
    }
    return ", ".join(f"{name};dur={took * 1000:.1f}" for name, took in stages.items())

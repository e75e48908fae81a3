"""The headers of an answer by a model, whatever the protocol."""

from collections.abc import Sequence

from inference import timing
from workers.values.prediction import Prediction
from workers.values.version_id import VersionId


def of_answer(predictions: Sequence[Prediction], seconds: float) -> dict[str, str]:
    """`seconds` went by from HTTP in to HTTP out. Of several inputs, the slowest counts."""
    first = predictions[0]
    found = {
        "X-Velo-Model": VersionId.parse(first.model_version).model,
        "X-Velo-Model-Version": first.model_version,
        "X-Velo-Worker": ",".join(sorted({one.worker for one in predictions})),
        "Server-Timing": timing.server_timing(predictions, seconds),
    }
    if truncated := [one.tokens for one in predictions if one.truncated]:
        found["X-Velo-Truncated"] = str(max(truncated))
    return found

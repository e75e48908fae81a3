"""Predictions in OpenAI's form."""

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from inference.protocols import vectors
from inference.protocols.openai.questions import BASE64, Question
from workers.catalog.plan import Plan, PlannedModel
from workers.values.prediction import Prediction
from workers.values.version_id import VersionId

OWNER = "velo"


def embeddings(question: Question, predictions: Sequence[Prediction]) -> dict[str, Any]:
    """The body of the answer; vectors in it are arrays, or text in base64. Raises
    InvalidInput where the vectors have fewer numbers than `dimensions`."""
    found = [
        vectors.typed(vectors.shortened(vectors.of(one), question.dimensions), question.dtype)
        for one in predictions
    ]
    tokens = sum(one.tokens for one in predictions)
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": _base64(vector) if question.encoding == BASE64 else vector,
            }
            for index, vector in enumerate(found)
        ],
        "model": VersionId.parse(predictions[0].model_version).model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _base64(vector: NDArray[Any]) -> str:
    """Of its numbers as little-endian float32, or as bytes (RFC 4648, with padding)."""
    little = vector.astype(vector.dtype.newbyteorder("<"), copy=False)
    return b64encode(little.tobytes()).decode()


def models(plan: Plan) -> dict[str, Any]:
    """The body of the list."""
    return {"object": "list", "data": [model(name, one) for name, one in plan.models.items()]}


def model(name: str, known: PlannedModel, version: str | None = None) -> dict[str, Any]:
    """One of the list, or one version. `created`: when it, or the model's first version, was
    registered, in Unix seconds."""
    versions = [known.versions[version]] if version else known.versions.values()
    created = min((one.registered for one in versions), default=0)
    return {"id": name, "object": "model", "created": created, "owned_by": OWNER}

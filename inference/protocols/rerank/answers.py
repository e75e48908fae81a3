"""Predictions in Cohere's form, which has Jina's fields too."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from inference.protocols.rerank.questions import Part, Question
from workers.values.prediction import Prediction
from workers.values.version_id import VersionId


def ranked(parts: Sequence[Part], predictions: Sequence[Prediction]) -> list[tuple[int, float]]:
    """Place and score of each document, the best first; equal scores by their place."""
    scores = [
        (part.begin + one["index"], one["score"])
        for part, prediction in zip(parts, predictions, strict=True)
        for one in prediction.output
    ]
    return sorted(scores, key=lambda one: (-one[1], one[0]))


def ranking(
    question: Question, parts: Sequence[Part], predictions: Sequence[Prediction], version: str
) -> dict[str, Any]:
    """The body of the answer. `version` of the API: "1" or "2"."""
    tokens = sum(one.tokens for one in predictions)
    return {
        "id": str(uuid4()),
        "object": "rerank",
        "model": VersionId.parse(predictions[0].model_version).model,
        "results": [
            {"index": place, "relevance_score": score}
            | ({"document": {"text": question.documents[place]}} if question.with_documents else {})
            for place, score in ranked(parts, predictions)[: question.most]
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "meta": {
            "api_version": {"version": version},
            "billed_units": {"search_units": 1},
            "tokens": {"input_tokens": tokens},
        },
    }

"""Predictions in TEI's form."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy
from django.conf import settings

from inference.dispatch import Served
from inference.protocols import vectors as dense
from inference.protocols.rerank.answers import ranked
from inference.protocols.rerank.questions import Part, Question
from inference.protocols.vectors import Vector
from workers.predictors.scores import sigmoid, softmax
from workers.values.prediction import Prediction

APPLIED = {"softmax": softmax, "sigmoid": sigmoid}
ONLY_LABEL = "LABEL_0"  # of a model that scores pairs, as transformers names it
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


def vectors(
    predictions: Sequence[Prediction], dimensions: int | None, *, scale: bool = True
) -> list[Vector]:
    """Shortened to `dimensions`, if it isn't None. Raises InvalidInput if they have fewer."""
    return [dense.shortened(dense.of(one), dimensions, scale=scale) for one in predictions]


def ranking(
    question: Question, parts: Sequence[Part], predictions: Sequence[Prediction]
) -> list[dict[str, Any]]:
    """Every text's index with its score, the best first."""
    return [
        {"index": place}
        | ({"text": question.documents[place]} if question.with_documents else {})
        | {"score": score}
        for place, score in ranked(parts, predictions)
    ]


def labels(output: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Labels with their scores."""
    return [{"score": one["score"], "label": one["label"]} for one in output]


def score(output: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The score of a pair, in the form of labels."""
    return [{"score": one["score"], "label": ONLY_LABEL} for one in output]


def applied(
    output: Sequence[Mapping[str, Any]], function: str | None
) -> Sequence[Mapping[str, Any]]:
    """Logits as the function makes them scores: their order stays."""
    if function not in APPLIED:
        return output
    scores = APPLIED[function](numpy.array([one["score"] for one in output]))
    return [{**one, "score": float(made)} for one, made in zip(output, scores, strict=True)]


def entities(output: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Named entities as hosted inference names their members."""
    return [
        {
            "entity_group": one["label"],
            "score": one["score"],
            "word": one["text"],
            "start": one["start"],
            "end": one["end"],
        }
        for one in output
    ]


def info(served: Served) -> dict[str, Any]:
    """What TEI tells of its model. null: Velo doesn't know it."""
    facts = served.version.facts if served.version else {}
    dtype = facts.get("dtype", "")
    return {
        "model_id": served.id.model,
        "model_sha": served.version.digest or None if served.version else None,
        "model_dtype": DTYPES.get(dtype, dtype) or None,
        "served_model_name": served.id.label,
        "model_type": _type(served.kind, facts),
        "max_concurrent_requests": settings.VELO_WEB_THREADS,
        "max_input_length": facts.get("max_tokens"),
        "max_batch_tokens": settings.VELO_BATCH_TOKENS,
        "max_batch_requests": settings.VELO_BATCH_MAX,
        "max_client_batch_size": settings.VELO_MAX_INPUTS,
        "auto_truncate": True,
        "tokenization_workers": served.workers,
        "version": settings.SPECTACULAR_SETTINGS["VERSION"],
        "sha": None,
        "docker_label": None,
    }


def _type(kind: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    if kind == "sparse":
        return {"embedding": {"pooling": "splade"}}
    names = {"classify": "classifier", "ner": "classifier", "rerank": "reranker"}
    if kind not in names:
        return {"embedding": {"pooling": facts.get("pooling")}}
    known = facts.get("labels", [])
    return {
        names[kind]: {
            "id2label": {str(number): label for number, label in enumerate(known)},
            "label2id": {label: number for number, label in enumerate(known)},
        }
    }

"""Scores of labels for a text, by a transformers model with a head for sequences."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from workers.predictors import encoder, options
from workers.predictors.encoder import Encoder, texts
from workers.predictors.engines import Outputs
from workers.predictors.protocol import NO_PARAMETERS, Encoded, Parameters, Spec, check_parameters
from workers.predictors.reading import Graph, Read, prepare
from workers.predictors.scores import Scores, sigmoid, softmax

__all__ = ["ClassifyPredictor", "load", "prepare"]

OPTIONS = encoder.OPTIONS
PARAMETERS = {**encoder.PARAMETERS, "raw_scores": bool}
FORMS: dict[str | None, Callable[[Outputs], Scores]] = {  # by config.json's problem_type
    "multi_label_classification": sigmoid,
    "regression": lambda logits: logits.astype(numpy.float64),
}


class ClassifyPredictor(Encoder):
    """Its answer has every label with its score, the highest first."""

    def __init__(self, spec: Spec, read: Read) -> None:
        super().__init__(spec, read)
        self.labels = read.facts.labels
        problem = "regression" if len(self.labels) == 1 else read.facts.problem
        self._scores = FORMS.get(problem, softmax)

    def encode(
        self, inputs: Sequence[Any], parameters: Parameters = NO_PARAMETERS
    ) -> list[Encoded]:
        """Raises InputError unless each input is a string."""
        check_parameters(parameters, PARAMETERS, self.kind)
        return self.read(texts(self.kind, inputs), parameters)

    def predict(self, batch: Sequence[Encoded]) -> list[list[dict[str, Any]]]:
        """For each text its labels with their scores, the highest score first."""
        logits = self.forward(batch)
        return [
            [
                {"label": self.labels[index], "score": float(scores[index])}
                for index in numpy.argsort(-scores, kind="stable")
            ]
            for scores in (
                raw if one.parameters.get("raw_scores") else made
                for one, raw, made in zip(batch, logits, self._scores(logits), strict=True)
            )
        ]

    @property
    def facts(self) -> dict[str, Any]:
        return super().facts | {"labels": list(self.labels)}

    def problem(self, given: Any, output: Any) -> str:
        """See Predictor.problem: every label once, with a finite score."""
        try:
            found = sorted(one["label"] for one in output)
            finite = all(math.isfinite(one["score"]) for one in output)
        except (TypeError, KeyError):
            return "not a list of objects with label and score"
        if found != sorted(self.labels):
            return f"scores for {found}, not one for each of {sorted(self.labels)}"
        return "" if finite else "scores that are infinite or not numbers"


def load(spec: Spec, threads: int) -> ClassifyPredictor:
    """Read the model and choose an engine for it. Raises ModelError."""
    options.checked(spec, OPTIONS)
    options.folder(spec)
    read = Read(spec, "AutoModelForSequenceClassification")
    predictor = ClassifyPredictor(spec, read)
    graph = Graph(read, "scored", lambda torch, model: torch.Scored(model))
    predictor.choose_engine(read, graph, threads)
    return predictor

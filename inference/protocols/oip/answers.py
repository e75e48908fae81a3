"""Predictions as tensors, and tensors as JSON or as raw bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy

from inference.codecs import rendered
from inference.protocols import vectors
from inference.protocols.oip.questions import LENGTH, Question
from inference.protocols.oip.signatures import BYTES, FP32, labels
from inference.protocols.rerank.answers import ranked
from inference.protocols.rerank.questions import Part
from workers.catalog.plan import PlannedVersion
from workers.values.prediction import Prediction
from workers.values.version_id import VersionId


@dataclass(frozen=True)
class Output:
    """A tensor of the answer."""

    name: str
    values: Any  # an array of float32, or strings
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def datatype(self) -> str:
        return FP32 if isinstance(self.values, numpy.ndarray) else BYTES

    @property
    def shape(self) -> list[int]:
        return list(numpy.shape(self.values))

    def flat(self) -> Any:
        """Its elements, row by row."""
        return self.values.ravel() if self.datatype == FP32 else self.values

    def raw(self) -> bytes:
        """Little-endian; before each string its length in bytes."""
        if self.datatype == FP32:
            return numpy.ascontiguousarray(self.values, "<f4").tobytes()
        texts = [text.encode() for text in self.values]
        return b"".join(LENGTH.pack(len(text)) + text for text in texts)


def embedded(predictions: Sequence[Prediction]) -> list[Output]:
    """The vector of each text."""
    return [Output("embedding", numpy.stack([vectors.of(one) for one in predictions]))]


def classified(predictions: Sequence[Prediction], version: PlannedVersion | None) -> list[Output]:
    """The scores of each text, and its best label."""
    names = columns(predictions[0], version)
    scores = [{each["label"]: each["score"] for each in one.output} for one in predictions]
    rows = numpy.array([[row[name] for name in names] for row in scores], numpy.float32)
    best = [one.output[0]["label"] for one in predictions]
    return [Output("scores", rows, {"labels": names}), Output("label", best)]


def columns(prediction: Prediction, version: PlannedVersion | None) -> list[str]:
    """The labels in the order of the scores: as the version's configuration numbers them, or by
    the alphabet where the plan doesn't know its labels."""
    found = sorted(one["label"] for one in prediction.output)
    known = labels(version)
    return known if sorted(known) == found else found


def scored(parts: Sequence[Part], predictions: Sequence[Prediction]) -> list[Output]:
    """The score of each text, in the order of the texts."""
    scores = [score for _, score in sorted(ranked(parts, predictions))]
    return [Output("score", numpy.array(scores, numpy.float32))]


def answer(
    question: Question, label: str, outputs: Sequence[Output]
) -> tuple[dict[str, Any], list[bytes]]:
    """The JSON, and the raw bytes that follow it. `label`: "name@version" of what answered."""
    version = VersionId.parse(label)
    found: dict[str, Any] = {"model_name": version.model, "model_version": version.version}
    if question.id is not None:
        found["id"] = question.id
    by_name = {one.name: one for one in outputs}
    tensors, raws = [], []
    for name, binary in question.outputs.items():
        one = by_name[name]
        tensor = {"name": name, "datatype": one.datatype, "shape": one.shape}
        parameters = dict(one.parameters)
        if binary:
            raws.append(one.raw())
            parameters["binary_data_size"] = len(raws[-1])
        else:
            tensor["data"] = one.flat()
        tensors.append(tensor | ({"parameters": parameters} if parameters else {}))
    return found | {"outputs": tensors}, raws


def joined(found: dict[str, Any], raws: Sequence[bytes]) -> tuple[bytes, int]:
    """The body of an answer with raw bytes, and the length of its JSON."""
    text = rendered(found)
    return b"".join([text, *raws]), len(text)

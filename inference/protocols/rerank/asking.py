"""Documents on their way to the workers: several parts, one ranking."""

from collections.abc import Mapping
from typing import Any

from inference import dispatch
from inference.protocols.rerank.questions import Part, Question
from workers.values.prediction import Prediction


def ask(
    question: Question, seconds: float, parameters: Mapping[str, Any], noun: str = "documents"
) -> tuple[list[Part], list[Prediction]]:
    """The parts, and the prediction of each. `noun`: what errors call the documents. Raises what
    `dispatch.ask` does."""
    parts = question.parts()
    inputs = [{"query": question.query, "texts": part.texts} for part in parts]
    names = [f"{noun}[{part.begin}] to [{part.begin + len(part.texts) - 1}]" for part in parts]
    return parts, dispatch.ask(question.target, inputs, seconds, names, parameters)

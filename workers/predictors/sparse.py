"""Sparse text embeddings (SPLADE): a weight for each token of the vocabulary, most of them 0."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy
from django.conf import settings

from workers.predictors import encoder, options
from workers.predictors.encoder import Encoder, texts
from workers.predictors.protocol import NO_PARAMETERS, Encoded, Parameters, Spec, check_parameters
from workers.predictors.reading import Graph, Read, prepare
from workers.values import batching

__all__ = ["SparsePredictor", "load", "prepare"]

LOGITS = 2**25  # numbers that a model call may have, one for each token and word: 128 MB


class SparsePredictor(Encoder):
    """Its answer has the vocabulary's indices with a weight above 0, in rising order."""

    def encode(
        self, inputs: Sequence[Any], parameters: Parameters = NO_PARAMETERS
    ) -> list[Encoded]:
        """Raises InputError unless each input is a string."""
        check_parameters(parameters, encoder.PARAMETERS, self.kind)
        return self.read(texts(self.kind, inputs), parameters)

    def predict(self, batch: Sequence[Encoded]) -> list[list[dict[str, Any]]]:
        """In several model calls where a single call would have more than LOGITS."""
        tokens = min(settings.VELO_BATCH_TOKENS, LOGITS // self._tokenizer.get_vocab_size())
        lengths = [one.tokens for one in batch]
        found: dict[int, list[dict[str, Any]]] = {}
        for call in batching.cut(lengths, settings.VELO_BATCH_MAX, tokens, self.call_tokens):
            weights = self.forward([batch[number] for number in call])
            found |= zip(call, map(_sparse, weights), strict=True)
        return [found[number] for number in range(len(batch))]

    def problem(self, given: Any, output: Any) -> str:
        """See Predictor.problem: rising indices with finite weights above 0."""
        try:
            rising = all(one["index"] < other["index"] for one, other in pairwise(output))
            positive = all(0 < one["value"] < math.inf for one in output)
        except (TypeError, KeyError):
            return "not a list of objects with index and value"
        if not rising:
            return "indices that don't rise"
        return "" if positive else "weights that aren't above 0, or aren't finite"


def _sparse(weights: Any) -> list[dict[str, Any]]:
    """`weights`: (vocabulary,)."""
    there = numpy.flatnonzero(weights > 0)
    return [
        {"index": index, "value": value}
        for index, value in zip(there.tolist(), weights[there].tolist(), strict=True)
    ]


def load(spec: Spec, threads: int) -> SparsePredictor:
    """Read the model and choose an engine for it. Raises ModelError."""
    options.checked(spec, encoder.OPTIONS)
    options.folder(spec)
    read = Read(spec, "AutoModelForMaskedLM")
    predictor = SparsePredictor(spec, read)
    graph = Graph(read, "expanded", lambda torch, model: torch.Expanded(model))
    predictor.choose_engine(read, graph, threads)
    return predictor

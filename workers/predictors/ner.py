"""Named entities in a text, by a transformers model with a head for tokens."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from workers.predictors import encoder, options
from workers.predictors.encoder import Encoder, texts
from workers.predictors.engines import Tokens
from workers.predictors.protocol import NO_PARAMETERS, Encoded, Parameters, Spec, check_parameters
from workers.predictors.reading import Graph, Read, prepare
from workers.predictors.scores import Scores, softmax

__all__ = ["NerPredictor", "load", "prepare"]

OPTIONS = {**encoder.OPTIONS, "aggregation": str}
AGGREGATIONS = ("simple", "first")  # whose labels count: all tokens', or each word's first token's
OUTSIDE = "O"


class Tokenized(NamedTuple):
    """A text as the model reads it, and where in it each token stands."""

    text: str
    ids: list[int]
    offsets: list[tuple[int, int]]  # in characters, that is, Unicode code points
    words: list[int | None]  # the number of the token's word; None for special tokens


class Piece(NamedTuple):
    """A token or a word."""

    label: str
    score: float
    start: int
    end: int


@dataclass
class Entity:
    """Pieces that belong together."""

    label: str
    scores: list[float]
    start: int
    end: int

    def to_json(self, text: str) -> dict[str, Any]:
        """Some tokenizers count the space before a word as part of it; an entity doesn't."""
        covered = text[self.start : self.end]
        start = self.start + len(covered) - len(covered.lstrip())
        covered = covered.strip()
        return {
            "label": self.label,
            "score": float(sum(self.scores) / len(self.scores)),
            "start": start,
            "end": start + len(covered),
            "text": covered,
        }


class NerPredictor(Encoder):
    """Its answer has the entities in the order of the text."""

    sample = "Hello, world! I am Ada Lovelace, from London."

    def __init__(self, spec: Spec, read: Read) -> None:
        super().__init__(spec, read)
        self.labels = read.facts.labels
        self._by_word = spec.options.get("aggregation") == "first"

    def encode(
        self, inputs: Sequence[Any], parameters: Parameters = NO_PARAMETERS
    ) -> list[Encoded]:
        check_parameters(parameters, encoder.PARAMETERS, self.kind)
        tokenizer, shortener = self.reading(parameters)
        given = texts(self.kind, inputs)
        if found := self.tokens(given, parameters):
            return found
        short = shortener.shortened(given)
        encodings = tokenizer.encode_batch(short)
        self.check_lengths(parameters, given, encodings)
        return [
            Encoded(
                Tokenized(text, encoding.ids, encoding.offsets, encoding.word_ids),
                len(encoding),
                truncated=bool(encoding.overflowing),
            )
            for text, encoding in zip(short, encodings, strict=True)
        ]

    def arrays(self, batch: Sequence[Encoded]) -> tuple[Tokens, ...]:
        return self.pad([encoded.ids.ids for encoded in batch])

    def predict(self, batch: Sequence[Encoded]) -> list[list[dict[str, Any]]]:
        inputs = self.arrays(batch)
        return [
            self._entities(encoded.ids, softmax(logits[mask == 1]))
            for encoded, logits, mask in zip(
                batch, self.engine.forward(*inputs), inputs[1], strict=True
            )
        ]

    def _entities(self, read: Tokenized, scores: Scores) -> list[dict[str, Any]]:
        """`scores`: (tokens, labels)."""
        found: list[Entity] = []
        for piece in self._pieces(read, scores):
            begins, kind = _tag(piece.label)
            if found and found[-1].label == kind and not begins:
                found[-1].scores.append(piece.score)
                found[-1].end = max(found[-1].end, piece.end)
            else:
                found.append(Entity(kind, [piece.score], piece.start, piece.end))
        entities = (one.to_json(read.text) for one in found if one.label != OUTSIDE)
        return [entity for entity in entities if entity["text"]]

    def _pieces(self, read: Tokenized, scores: Scores) -> list[Piece]:
        """What has a label of its own: each token, or each word with that of its first token."""
        pieces: list[Piece] = []
        last = None
        for token, ((start, end), word) in enumerate(zip(read.offsets, read.words, strict=True)):
            if word is None:
                continue
            if self._by_word and word == last:
                pieces[-1] = pieces[-1]._replace(end=end)
            else:
                best = int(scores[token].argmax())
                pieces.append(Piece(self.labels[best], scores[token, best], start, end))
            last = word
        return pieces

    @property
    def facts(self) -> dict[str, Any]:
        return super().facts | {"labels": list(self.labels)}

    def problem(self, given: Any, output: Any) -> str:
        try:
            for one in output:
                start, end = one["start"], one["end"]
                if not 0 <= start < end <= len(given) or given[start:end] != one["text"]:
                    return f"an entity from {start} to {end}, where its text isn't"
                if not math.isfinite(one["score"]):
                    return "scores that are infinite or not numbers"
                if not isinstance(one["label"], str):
                    return "a label that isn't a string"
        except (TypeError, KeyError):
            return "not a list of objects with label, score, start, end and text"
        return ""


def _tag(label: str) -> tuple[bool, str]:
    """Whether it begins an entity, and the entity's label. Without B- or I-, it goes on."""
    return (label[:2] == "B-", label[2:]) if label[:2] in ("B-", "I-") else (False, label)


def load(spec: Spec, threads: int) -> NerPredictor:
    """Read the model and choose an engine for it. Raises ModelError."""
    given = options.checked(spec, OPTIONS)
    if "aggregation" in given:
        options.choice(spec, "aggregation", given["aggregation"], AGGREGATIONS)
    options.folder(spec)
    read = Read(spec, "AutoModelForTokenClassification")
    predictor = NerPredictor(spec, read)
    graph = Graph(read, "tagged", lambda torch, model: torch.Tagged(model))
    predictor.choose_engine(read, graph, threads)
    return predictor

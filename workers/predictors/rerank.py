"""How well texts answer a query, by a cross-encoder: it reads each text together with the query."""

import math
from collections.abc import Sequence
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy
from django.conf import settings
from tokenizers import Encoding

from workers.predictors import encoder, options
from workers.predictors.encoder import Encoder
from workers.predictors.engines import Tokens
from workers.predictors.protocol import (
    NO_PARAMETERS,
    Encoded,
    InputError,
    ModelError,
    Parameters,
    Spec,
    check_parameters,
)
from workers.predictors.reading import Graph, Read, prepare
from workers.predictors.scores import sigmoid
from workers.values import batching

__all__ = ["RerankPredictor", "load", "prepare"]

OPTIONS = {**encoder.OPTIONS, "raw_scores": bool}
PARAMETERS: dict[str, type] = {"truncate": bool, "raw_scores": bool}


class Pair(NamedTuple):
    """A query and one of its texts, as the model reads them."""

    ids: list[int]
    types: list[int]


class RerankPredictor(Encoder):
    """Its answer has every text's index with its score, the highest first.

    An input is as many rows of a model call as it has texts, so the calls are cut here.
    """

    sample = {"query": "Hello?", "texts": ["Hello, world!", "The quick brown fox"]}

    def __init__(self, spec: Spec, read: Read) -> None:
        super().__init__(spec, read, pairs=True)
        if len(read.facts.labels) != 1:
            raise ModelError(
                f"{spec.folder} has {len(read.facts.labels)} labels; the kind 'rerank' needs a "
                "model with one. Serve it as the kind 'classify'."
            )
        self.labels = read.facts.labels
        self._raw = spec.options.get("raw_scores", False)

    def encode(
        self, inputs: Sequence[Any], parameters: Parameters = NO_PARAMETERS
    ) -> list[Encoded]:
        check_parameters(parameters, PARAMETERS, self.kind)
        read = [_checked(given) for given in inputs]
        whole = [text for query, texts in read for text in (query, *texts)]
        cut = iter(self._shortener.shortened(whole))
        short = [list(islice(cut, 1 + len(texts))) for _, texts in read]
        pairs = [(query, text) for query, *texts in short for text in texts]
        encodings = iter(self._tokenizer.encode_batch_fast(pairs))
        found = []
        for (query, texts), beginnings in zip(read, short, strict=True):
            rows = list(islice(encodings, len(texts)))
            self.check_lengths(parameters, [(query, text) for text in texts], rows)
            truncated = any(row.overflowing for row in rows)
            self._share_odd_token([query, *texts], beginnings, rows)
            ids = [Pair(row.ids, row.type_ids) for row in rows]
            found.append(Encoded(ids, sum(map(len, rows)), truncated, parameters))
        return found

    def _share_odd_token(
        self, whole: Sequence[str], short: Sequence[str], rows: list[Encoding]
    ) -> None:
        """Of a query and a text that are both longer than what the model reads of the two, it reads
        a half each, and one token more of the longer text. Their beginnings don't show which is
        longer: replace the rows in which the wrong text may have got the token.

        `whole` and `short`: the query, then the texts; `rows`: one for each text.
        """
        if all(one is other for one, other in zip(whole, short, strict=True)):
            return
        most = self.max_tokens - self._tokenizer.num_special_tokens_to_add(True)
        query, *lengths = self._lengths(short)
        doubtful = [n for n, length in enumerate(lengths, 1) if min(query, length) > most]
        if not doubtful or most % 2 == 0:
            return
        query, *lengths = self._lengths([whole[0], *(whole[n] for n in doubtful)])
        for n, length in zip(doubtful, lengths, strict=True):
            first, second = self._tokenizer.encode_batch(
                [short[0], short[n]], add_special_tokens=False
            )
            first.truncate((most + (query > length)) // 2)
            second.truncate(most - len(first))
            rows[n - 1] = self._tokenizer.post_process(first, second)

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        """In tokens, whatever of them the model reads."""
        found = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [len(one) + sum(map(len, one.overflowing)) for one in found]

    def predict(self, batch: Sequence[Encoded]) -> list[list[dict[str, Any]]]:
        rows = [row for encoded in batch for row in encoded.ids]
        logits = numpy.empty(len(rows), numpy.float32)
        lengths = [len(row.ids) for row in rows]
        most = settings.VELO_BATCH_MAX, settings.VELO_BATCH_TOKENS
        for call in batching.cut(lengths, *most, self.call_tokens):
            found = self.engine.forward(*self._padded([rows[index] for index in call]))
            logits[call] = found[:, 0]
        ends = numpy.cumsum([len(encoded.ids) for encoded in batch])
        parts = numpy.split(logits, ends[:-1])
        return [
            self._ranked(part, one.parameters.get("raw_scores", self._raw))
            for one, part in zip(batch, parts, strict=True)
        ]

    def _ranked(self, logits: Any, raw: bool) -> list[dict[str, Any]]:
        scores = logits if raw else sigmoid(logits)
        # By logits: where sigmoid comes to 1, these still differ.
        order = numpy.argsort(-logits, kind="stable")
        return [{"index": int(index), "score": float(scores[index])} for index in order]

    def _padded(self, rows: Sequence[Pair]) -> tuple[Tokens, ...]:
        types = [row.types for row in rows] if self._takes > 2 else ()
        return self.pad([row.ids for row in rows], types)

    def arrays(self, batch: Sequence[Encoded]) -> tuple[Tokens, ...]:
        return self._padded([row for encoded in batch for row in encoded.ids])

    def like(self, text: str, other: str) -> Any:
        return {"query": text, "texts": [text, other]}

    @property
    def facts(self) -> dict[str, Any]:
        return super().facts | {"labels": list(self.labels)}

    def problem(self, given: Any, output: Any) -> str:
        try:
            found = sorted(one["index"] for one in output)
            finite = all(math.isfinite(one["score"]) for one in output)
            falling = all(a["score"] >= b["score"] for a, b in pairwise(output))
        except (TypeError, KeyError):
            return "not a list of objects with index and score"
        if found != list(range(len(given["texts"]))):
            return f"the indices {found}, not each of {len(given['texts'])} texts' once"
        if not finite:
            return "scores that are infinite or not numbers"
        return "" if falling else "scores that don't fall"


def _checked(given: Any) -> tuple[str, list[str]]:
    """Query and texts. Raises InputError."""
    match given:
        case {"query": str(query), "texts": list(texts), **rest} if not rest:
            if all(isinstance(text, str) for text in texts):
                return query, texts
    raise InputError(
        "The kind 'rerank' takes an object with query, a string, and texts, a list of strings."
    )


def load(spec: Spec, threads: int) -> RerankPredictor:
    """Read the model and choose an engine for it. Raises ModelError."""
    options.checked(spec, OPTIONS)
    options.folder(spec)
    read = Read(spec, "AutoModelForSequenceClassification")
    predictor = RerankPredictor(spec, read)
    takes = 3 if read.facts.takes_types else 2
    graph = Graph(read, f"scored-{takes}", lambda torch, model: torch.Scored(model), takes)
    predictor.choose_engine(read, graph, threads)
    return predictor

"""What all kinds that read text with a transformers encoder have in common."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from importlib import import_module
from typing import Any

import numpy
from django.conf import settings

from workers.host import machine, memory
from workers.predictors import engines
from workers.predictors.engines import (
    Candidate,
    Engine,
    Measure,
    Outputs,
    Tokens,
    openvino,
    race,
)
from workers.predictors.engines.race import Course
from workers.predictors.protocol import Encoded, InputError, ModelError, Spec
from workers.predictors.reading import Graph, Read
from workers.predictors.shortening import Shortener

OWN = 0.0007  # seconds that a worker spends on a batch besides the model call
RACE_TEXTS, RACE_TOKENS = 32, 32  # of the full batch with which engines are timed
# A first call of each size sets up buffers and kernels that later calls reuse.
WARM_UP = ("Velo", "warm-up " * 30, "warm-up " * 300)


class Encoder(ABC):
    """A tokenizer, and an engine with the model. A kind says what a text is to it and what an
    output means."""

    sample: Any = "Hello, world!"
    measure: Measure = engines.LIKENESS
    dimensions = 0

    def __init__(
        self, spec: Spec, read: Read, max_tokens: int | None = None, *, pairs: bool = False
    ) -> None:
        """`max_tokens`: that the folder asks for; the option of that name comes first."""
        self.spec = spec
        self.kind = self.task = spec.kind
        self.name, self.version, self.source = spec.name, spec.version, str(spec.folder)
        self.max_tokens = _max_tokens(spec, read, max_tokens, pairs)
        self._padding = read.facts.padding, read.facts.pads_left
        # Without what transformers wraps around it, which takes as long as the tokenizing.
        self._tokenizer = read.tokenizer
        self._tokenizer.enable_truncation(self.max_tokens, direction=read.facts.truncation_side)
        self._tokenizer.no_padding()
        self._shortener = Shortener(self._tokenizer)
        self.engine: Engine  # chosen next
        self.engine_chosen = ""
        self.call_tokens = 0  # measured when it warms up
        self._takes = 2  # inputs of the engine
        self._multiple = 1  # of how many tokens the engine wants its texts to be

    @abstractmethod
    def encode(self, inputs: Sequence[Any]) -> list[Encoded]: ...

    @abstractmethod
    def predict(self, batch: Sequence[Encoded]) -> Sequence[Any]: ...

    def like(self, text: str, other: str) -> Any:
        """An input of this kind made from the text, and from the other text if it takes two."""
        return text

    def arrays(self, batch: Sequence[Encoded]) -> tuple[Tokens, ...]:
        """The inputs of the engine."""
        return self.pad([encoded.ids for encoded in batch])

    def pad(
        self, ids: Sequence[Sequence[int]], types: Sequence[Sequence[int]] = ()
    ) -> tuple[Tokens, ...]:
        """Ids, mask and types, if given: (texts, tokens of the longest, up to what the engine
        likes)."""
        longest = max(map(len, ids))
        liked = -(-longest // self._multiple) * self._multiple
        shape = len(ids), liked if liked <= self.max_tokens else longest
        padding, left = self._padding
        padded = numpy.full(shape, padding, numpy.int64)
        mask = numpy.zeros(shape, numpy.int64)
        places = [slice(-len(one), None) if left else slice(len(one)) for one in ids]
        for row, where in enumerate(places):
            padded[row, where] = ids[row]
            mask[row, where] = 1
        if not types:
            return padded, mask
        kinds = numpy.zeros(shape, numpy.int64)
        for row, where in enumerate(places):
            kinds[row, where] = types[row]
        return padded, mask, kinds

    def forward(self, batch: Sequence[Encoded]) -> Outputs:
        """The engine's outputs for the batch, padded to its longest input."""
        return self.engine.forward(*self.arrays(batch))

    def choose_engine(self, read: Read, graph: Graph, threads: int) -> None:
        """Raises ModelError if none of the engines that the settings allow is right."""
        self._takes = graph.takes

        @cache
        def reference() -> Engine:
            engine: Engine = _torch().TorchEngine(graph.module, "fp32", "cpu")
            engine.use_threads(threads)
            return engine

        others = (*engines.GOLDEN[1:], engines.GOLDEN[0])
        golden = self.arrays(self.encode(list(map(self.like, engines.GOLDEN, others))))
        known = read.kept.outputs(graph.name, golden)
        wanted = engines.wanted(reference(), golden) if known is None else known
        longest = min(RACE_TOKENS, self.max_tokens)
        course = Course(
            golden,
            wanted,
            self.measure,
            one=self._of_zeros(1, longest),
            full=self._of_zeros(RACE_TEXTS, longest),
        )
        candidates = partial(_candidates, graph, reference, threads)
        result = read.kept.race(graph.name)
        choice = race.repeat(candidates(), result, course) if result else None
        if choice is None:
            choice = race.run(candidates(), course)
            read.kept.write_race(graph.name, choice.result)
        self.engine, self.engine_chosen = choice.engine, choice.reason
        self._multiple = choice.engine.multiple
        if known is None:
            read.kept.write_outputs(graph.name, golden, wanted)
        if isinstance(choice.engine, openvino.OpenVINOEngine):
            read.keep()

    def warm_up(self) -> None:
        """Also measures `call_tokens`, the fixed cost of a model call."""
        for text in WARM_UP:
            self.predict(self.encode([self.like(text, text)]))
        # Two points on the line from padded tokens to seconds. In turn, since a new shape costs
        # something too.
        low, high = (
            min(times)
            for times in zip(
                *[(self._timed(1, 16), self._timed(16, 32)) for _ in range(5)], strict=True
            )
        )
        token = max(1e-9, (high - low) / (16 * 32 - 16))
        self.call_tokens = round(min(256, max(0, (low + OWN) / token - 16)))

    def _timed(self, texts: int, tokens: int) -> float:
        """Seconds of a model call."""
        inputs = self._of_zeros(texts, tokens)
        started = time.perf_counter()
        self.engine.forward(*inputs)
        return time.perf_counter() - started

    def _of_zeros(self, texts: int, tokens: int) -> tuple[Tokens, ...]:
        """Inputs of the engine whose tokens don't matter."""
        rows = [[0] * tokens] * texts
        return self.pad(rows, rows if self._takes > 2 else ())

    def use_threads(self, threads: int) -> None:
        self.engine.use_threads(threads)

    def close(self) -> None:
        del self.engine, self._tokenizer, self._shortener
        memory.give_back()


def texts(kind: str, inputs: Sequence[Any]) -> list[str]:
    """The inputs, if each is a string. Raises InputError."""
    if not all(isinstance(given, str) for given in inputs):
        raise InputError(f"The kind {kind!r} takes a string.")
    return list(inputs)


def _max_tokens(spec: Spec, read: Read, layout: int | None, pairs: bool) -> int:
    """Raises ModelError."""
    wanted = spec.options.get("max_tokens")
    facts = read.facts
    positions = float("inf") if facts.positions is None else facts.positions
    limit = min(wanted or layout or facts.longest, positions)
    if limit > 10**9:  # what transformers writes for infinity
        raise ModelError(
            f"Neither tokenizer nor config.json of {spec.folder} says how many tokens the model "
            "takes. Give the option 'max_tokens'."
        )
    least = facts.special[pairs] + 1 + pairs
    if wanted is not None and not least <= wanted <= positions:
        raise ModelError(
            f"The option 'max_tokens' of {spec.label} is {wanted}; it has to be from {least} to "
            f"{positions}, for which the model has positions."
        )
    return int(limit)


def _candidates(graph: Graph, reference: Callable[[], Engine], threads: int) -> Iterator[Candidate]:
    """The engines that VELO_ENGINE, VELO_DTYPE and VELO_DEVICE allow here. OpenVINO comes first: to
    find it, torch isn't imported."""
    device = settings.VELO_DEVICE
    if device == "auto":
        on_cpu = settings.VELO_ENGINE == "openvino" or not machine.may_have_gpu()
        device = "cpu" if on_cpu else _torch().best_device()

    def dtypes(bf16: bool) -> list[str]:
        if settings.VELO_DTYPE != "auto":
            return [settings.VELO_DTYPE]
        return ["bf16", "fp32"] if bf16 else ["fp32"]

    if settings.VELO_ENGINE != "torch" and device == "cpu":
        for dtype in dtypes(openvino.computes_bf16()):
            make = partial(openvino.OpenVINOEngine, graph, dtype, threads)
            yield Candidate(f"OpenVINO {dtype} on cpu", make)
    if settings.VELO_ENGINE != "openvino":
        for dtype in dtypes(_torch().computes_bf16(device)):
            if (dtype, device) == ("fp32", "cpu"):
                yield Candidate(reference().name, reference, is_reference=True)
            else:
                make = partial(_torch().TorchEngine, graph.module, dtype, device)
                yield Candidate(f"torch {dtype} on {device}", make)


def _torch() -> Any:
    """Its engine: imported when it is asked for, since most processes can do without torch."""
    return import_module("workers.predictors.engines.torch")

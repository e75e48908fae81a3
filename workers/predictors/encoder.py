"""What all kinds that read text with a transformers encoder have in common."""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy
from django.conf import settings
from tokenizers import Encoding, Tokenizer

from workers.host import machine, memory
from workers.predictors import engines, options
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
from workers.predictors.protocol import (
    NO_PARAMETERS,
    TOO_MANY_TOKENS,
    Encoded,
    InputError,
    ModelError,
    Parameters,
    Spec,
)
from workers.predictors.reading import Graph, Read
from workers.predictors.shortening import Shortener

OPTIONS: dict[str, type] = {"max_tokens": int, "quantize": str}  # of all kinds that are encoders
# Of all kinds, likewise.
PARAMETERS: dict[str, type] = {
    "truncate": bool,
    "truncation_side": str,
    "output": str,
    "add_special_tokens": bool,
}
TOKENS = "tokens"
OUTPUTS = (TOKENS,)  # what a request may ask for, instead of what the kind answers
SIDES = ("left", "right")  # of a long text, that truncation leaves out
QUANTISED = ("int8",)
# Texts on which the ranges of a model's numbers are measured, so that it can be quantised: short,
# long, in many scripts, names, numbers, code. None is a golden text, by which the model is judged.
CALIBRATION = Path(__file__).with_name("calibration.json")
UNQUANTISED = "Leave out the option 'quantize', or set all three to auto."
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
        self._is_quantised = "quantize" in spec.options
        if self._is_quantised:
            options.choice(spec, "quantize", spec.options["quantize"], QUANTISED)
        self._padding = read.facts.padding, read.facts.pads_left
        # Without what transformers wraps around it, which takes as long as the tokenizing.
        self._tokenizer = read.tokenizer
        self._truncation_side = read.facts.truncation_side
        self._tokenizer.no_padding()
        truncate(self._tokenizer, self.max_tokens, self._truncation_side)
        self._shortener = Shortener(self._tokenizer)
        # These are made when a request asks for them: by the side that they truncate, and whole.
        self._others: dict[str, tuple[Tokenizer, Shortener]] = {}
        self._untruncated: Tokenizer | None = None
        self.engine: Engine  # chosen next
        self.engine_chosen = ""
        self.call_tokens = 0  # measured when it warms up
        self._takes = 2  # inputs of the engine
        self._multiple = 1  # of how many tokens the engine wants its texts to be

    @abstractmethod
    def encode(
        self, inputs: Sequence[Any], parameters: Parameters = NO_PARAMETERS
    ) -> list[Encoded]: ...

    def reading(self, parameters: Parameters) -> tuple[Tokenizer, Shortener]:
        """The tokenizer that truncates as the request asks for. Raises InputError."""
        side = parameters.get("truncation_side", self._truncation_side)
        if side == self._truncation_side:
            return self._tokenizer, self._shortener
        if side not in SIDES:
            raise InputError(f"truncation_side: expected left or right; got {side[:40]!r}.")
        if side not in self._others:
            other = Tokenizer.from_str(self._tokenizer.to_str())
            truncate(other, self.max_tokens, side)
            self._others[side] = other, Shortener(other)
        return self._others[side]

    def read(
        self, given: Sequence[str], parameters: Parameters, outputs: Sequence[str] = OUTPUTS
    ) -> list[Encoded]:
        """These texts as the model reads them. `outputs`: what a request may ask for. Raises
        InputError."""
        if found := self.tokens(given, parameters, outputs):
            return found
        tokenizer, shortener = self.reading(parameters)
        encodings = tokenizer.encode_batch_fast(shortener.shortened(given))
        self.check_lengths(parameters, given, encodings)
        return [
            Encoded(encoding.ids, len(encoding), bool(encoding.overflowing), parameters)
            for encoding in encodings
        ]

    def tokens(
        self, given: Sequence[str], parameters: Parameters, outputs: Sequence[str] = OUTPUTS
    ) -> list[Encoded] | None:
        """How the tokenizer reads these texts, if the request asks for that; nothing is truncated.
        `outputs`: what a request may ask for. Raises InputError."""
        output = parameters.get("output")
        if output is not None and output not in outputs:
            raise InputError(
                f"output: expected {' or '.join(outputs)}, or nothing; got {output[:40]!r}."
            )
        if output != TOKENS:
            if "add_special_tokens" in parameters:
                raise InputError(f"add_special_tokens: it goes only with output {TOKENS!r}.")
            return None
        special = parameters.get("add_special_tokens", True)
        encodings = self.whole().encode_batch(given, add_special_tokens=special)
        return [
            Encoded((), len(encoding), False, answer=_tokens(text, encoding))
            for text, encoding in zip(given, encodings, strict=True)
        ]

    @property
    def facts(self) -> dict[str, Any]:
        """See Predictor."""
        return {"max_tokens": self.max_tokens, "dtype": self.engine.dtype}

    def whole(self) -> Tokenizer:
        """A tokenizer that truncates nothing."""
        if self._untruncated is None:
            other = Tokenizer.from_str(self._tokenizer.to_str())
            other.no_truncation()
            self._untruncated = other
        return self._untruncated

    def check_lengths(
        self,
        parameters: Parameters,
        given: Sequence[str | tuple[str, str]],
        encodings: Sequence[Encoding],
    ) -> None:
        """Raises InputError if a text, or a pair, is truncated and the request
        doesn't allow it."""
        if parameters.get("truncate", True):
            return
        for one, encoding in zip(given, encodings, strict=True):
            if encoding.overflowing:
                [counted] = self.whole().encode_batch_fast([one])
                raise InputError(
                    f"The input has {len(counted)} tokens, and may not be truncated; the model "
                    f"reads {self.max_tokens}. Send a shorter one, or let it be truncated.",
                    TOO_MANY_TOKENS,
                )

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
        if self._is_quantised:
            course = replace(course, measure=self.measure.of_quantised(), cure=UNQUANTISED)
            candidates = partial(_quantised, graph, self._calibration, threads)

        def repeat(result: race.Result | None) -> race.Choice | None:
            return race.repeat(candidates(), result, course) if result else None

        choice = repeat(known_race := read.kept.race(graph.name))
        if choice is None:
            with read.kept.racing():
                result = read.kept.race(graph.name)  # another process may have run it meanwhile
                choice = repeat(result) if result != known_race else None
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

    def _calibration(self) -> list[tuple[Tokens, ...]]:
        """Texts by which the model is quantised, each as the engine's inputs."""
        texts = json.loads(CALIBRATION.read_text("utf-8"))
        encoded = self.encode(list(map(self.like, texts, [*texts[1:], texts[0]])))
        return [self.arrays([one]) for one in encoded]

    def _of_zeros(self, texts: int, tokens: int) -> tuple[Tokens, ...]:
        """Inputs of the engine whose tokens don't matter."""
        rows = [[0] * tokens] * texts
        return self.pad(rows, rows if self._takes > 2 else ())

    def use_threads(self, threads: int) -> None:
        self.engine.use_threads(threads)

    def close(self) -> None:
        del self.engine, self._tokenizer, self._shortener, self._others, self._untruncated
        memory.give_back()


def _tokens(text: str, encoding: Encoding) -> list[dict[str, Any]]:
    """Each token with the characters from `start` to before `stop` that it stands for."""
    found: list[dict[str, Any]] = []
    for number, token, (start, stop), special in zip(
        encoding.ids,
        encoding.tokens,
        encoding.offsets,
        encoding.special_tokens_mask,
        strict=True,
    ):
        said = {"id": number, "text": token, "special": True, "start": None, "stop": None}
        if not special:
            said |= {"text": text[start:stop], "special": False, "start": start, "stop": stop}
        found.append(said)
    return found


def truncate(tokenizer: Tokenizer, tokens: int, side: str) -> None:
    """Truncate to this number of tokens from now on, leaving out what is at this side."""
    tokenizer.enable_truncation(tokens, direction=side)


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
    if settings.VELO_ENGINE != "torch" and device == "cpu":
        for dtype in _dtypes(openvino.computes_bf16()):
            make = partial(openvino.OpenVINOEngine, graph, dtype, threads)
            yield Candidate(f"OpenVINO {dtype} on cpu", make)
    if settings.VELO_ENGINE != "openvino":
        for dtype in _dtypes(_torch().computes_bf16(device)):
            if (dtype, device) == ("fp32", "cpu"):
                yield Candidate(reference().name, reference, is_reference=True)
            else:
                make = partial(_torch().TorchEngine, graph.module, dtype, device)
                yield Candidate(f"torch {dtype} on {device}", make)


def _quantised(graph: Graph, texts: openvino.Calibration, threads: int) -> Iterator[Candidate]:
    """The engines for a version that is to be quantised: on a CPU, whatever else there is."""
    if settings.VELO_ENGINE != "torch" and settings.VELO_DEVICE in ("auto", "cpu"):
        for dtype in _dtypes(openvino.computes_bf16()):
            make = partial(openvino.OpenVINOEngine, graph, dtype, threads, texts)
            yield Candidate(f"OpenVINO int8 and {dtype} on cpu", make)


def _dtypes(bf16: bool) -> list[str]:
    """That VELO_DTYPE allows. `bf16`: whether the device has units for it."""
    if settings.VELO_DTYPE != "auto":
        return [settings.VELO_DTYPE]
    return ["bf16", "fp32"] if bf16 else ["fp32"]


def _torch() -> Any:
    """Its engine: imported when it is asked for, since most processes can do without torch."""
    return import_module("workers.predictors.engines.torch")

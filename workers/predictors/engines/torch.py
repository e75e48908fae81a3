"""The forward pass in torch: on the CPU in fp32 the reference, and the engine for GPUs."""

import copy

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workers.host import machine
from workers.predictors.engines import Outputs, Tokens
from workers.predictors.reading import Graph

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Computed(torch.nn.Module):
    """What an engine computes: ids, mask and, if it takes three, token types, each of the shape
    (texts, tokens), to numbers of the shape (texts, …)."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model


class Pooled(Computed):
    """An encoder and its pooling: to (texts, dimensions)."""

    def __init__(self, model: PreTrainedModel, pooling: str) -> None:
        super().__init__(model)
        self.pooling = pooling  # as in folder.Layout

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """`ids`, `mask`: (texts, tokens), int64."""
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        if self.pooling == "cls":
            return hidden[:, 0]
        if self.pooling == "lasttoken":
            # The last position whose mask is 1, whichever side the padding is on.
            last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
            return hidden[torch.arange(hidden.shape[0]), last]
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        if self.pooling == "max":
            return hidden.masked_fill(weights == 0, float("-inf")).amax(1)
        return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)


class Hidden(Computed):
    """An encoder without pooling: to (texts, tokens, hidden)."""

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = self.model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        return states


class Expanded(Computed):
    """SPLADE: a model that predicts masked tokens, to a weight for every token of the vocabulary,
    (texts, vocabulary): max over the text's tokens of log(1 + relu(logit)) (arXiv:2109.10086)."""

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        logits = self.model(input_ids=ids, attention_mask=mask).logits.float()
        weights: Tensor = torch.log1p(torch.relu(logits)) * mask.unsqueeze(-1)
        return weights.amax(1)


class Scored(Computed):
    """A model with a head for whole texts: to logits, (texts, labels)."""

    def forward(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        more = {} if types is None else {"token_type_ids": types}
        return self.model(input_ids=ids, attention_mask=mask, **more).logits.float()


class Tagged(Computed):
    """A model with a head for tokens: to logits, (texts, tokens, labels), 0 for padding."""

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        logits = self.model(input_ids=ids, attention_mask=mask).logits.float()
        return logits * mask.unsqueeze(-1)


class TorchEngine:
    """Computes with torch, on a CPU or a GPU."""

    multiple = 1

    def __init__(self, model: Computed, dtype: str, device: str) -> None:
        self.name = f"torch {torch.__version__.partition('+')[0]} {dtype} on {device}"
        self.dtype = dtype
        self._device = torch.device(device)
        if (dtype, device) != ("fp32", "cpu"):
            # The original stays as it is: it is the reference.
            model = copy.deepcopy(model).to(self._device, DTYPES[dtype])
        self._model = model

    @torch.inference_mode()
    def forward(self, *inputs: Tokens) -> Outputs:
        """`inputs`: (texts, tokens) each; the outputs as float32, on the CPU."""
        outputs = self._model(*(torch.from_numpy(one).to(self._device) for one in inputs))
        found: Outputs = outputs.cpu().numpy()
        return found

    def use_threads(self, threads: int) -> None:
        """Of the whole process: torch knows no others."""
        torch.set_num_threads(threads)

    def another(self, graph: Graph) -> "TorchEngine":
        return TorchEngine(graph.module, self.dtype, str(self._device))


def best_device() -> str:
    """A GPU if torch finds one, otherwise the CPU."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def computes_bf16(device: str) -> bool:
    """With units of its own; elsewhere bf16 would be emulated, slower than fp32."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and machine.computes_bf16()

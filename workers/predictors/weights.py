"""Reading a folder's weights and tokenizer, without running anything in it or asking anybody."""

import os
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError  # nosec B403 # the error alone
from typing import Any

from torch import nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from workers.predictors import folder
from workers.predictors.engines.torch import DTYPES
from workers.predictors.protocol import ModelError, Spec


@dataclass(frozen=True)
class Read:
    """What a folder holds, in memory."""

    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel

    @property
    def positions(self) -> float:
        """Tokens that the model has positions for."""
        for name, module in self.model.named_modules():
            positions = name.endswith("position_embeddings") and isinstance(module, nn.Embedding)
            # RoBERTa and its kin begin to count after the padding's number.
            if positions and module.padding_idx is not None:
                return module.num_embeddings - module.padding_idx - 1
        return getattr(self.model.config, "max_position_embeddings", None) or float("inf")

    @property
    def labels(self) -> list[str]:
        """Of a head's outputs, in their order."""
        names = self.model.config.id2label
        return [names[number] for number in range(len(names))]

    @property
    def takes_types(self) -> bool:
        """It tells apart the two texts of a pair."""
        named = "token_type_ids" in self.tokenizer.model_input_names
        return named and getattr(self.model.config, "type_vocab_size", 0) > 1


def read(spec: Spec, within: str, auto: Any, unused: str = "") -> Read:
    """The model in the folder's part `within`, as the transformers class `auto` makes it, in fp32.

    Tensors whose names begin with `unused` may be missing. Raises ModelError.
    """
    assert spec.folder
    path = spec.folder / within
    folder.check(path)
    # Everything is in the folder: nothing may be asked of a hub.
    os.environ["HF_HUB_OFFLINE"] = "1"
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        tokenizer = AutoTokenizer.from_pretrained(  # nosec B615 # local files only
            path, local_files_only=True, trust_remote_code=False
        )
        model, report = auto.from_pretrained(
            path,
            local_files_only=True,
            trust_remote_code=False,
            weights_only=True,
            dtype=DTYPES["fp32"],
            output_loading_info=True,
        )
    except UnpicklingError as error:
        # Torch's message ends with the advice to read the file anyway.
        raise ModelError(
            f"The weights in {spec.folder} aren't plain tensors: reading them would run code in "
            "them, or they are broken. Use a model.safetensors instead, or download them again."
        ) from error
    except Exception as error:  # each broken file raises a kind of its own
        raise ModelError(
            f"{spec.folder} can't be loaded: {type(error).__name__}: {error}. "
            "Download its files again, whole."
        ) from error
    _check_complete(spec, report["missing_keys"], unused)
    _check_finite(spec.folder, model)
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ModelError(
            f"The tokenizer in {spec.folder} is {type(tokenizer).__name__}, which is written in "
            "Python. Add its fast form, tokenizer.json."
        )
    return Read(tokenizer, model.eval())


def _check_complete(spec: Spec, missing: set[str], unused: str) -> None:
    """Anything that is missing would be random numbers."""
    lacking = sorted(key for key in missing if not (unused and key.startswith(unused)))
    if lacking:
        raise ModelError(
            f"The weights in {spec.folder} lack {len(lacking)} tensors that its config.json asks "
            f"for, the first being {lacking[0]}: they belong to another model, or to one of "
            f"another kind than {spec.kind!r}."
        )


def _check_finite(path: Path, model: PreTrainedModel) -> None:
    for name, tensor in model.named_parameters():
        if not tensor.isfinite().all():
            raise ModelError(
                f"The weights in {path} hold numbers that are infinite or not numbers, first in "
                f"{name}: they are broken, or their training failed. Take others."
            )

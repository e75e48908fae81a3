"""Models that the tests make: real architectures with seeded random weights."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

VOCABULARY = 83828
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghijklmnopqrstuvwxyzабвгдеёжзийклмнопрстуфхцчшщъыьэюя0123456789.,!?"


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
    """Word pieces of single letters: any text gets ids, though none that mean anything."""
    words = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    words += [f"[unused{number}]" for number in range(VOCABULARY - len(words))]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return tokenizer

"""What a model's folder holds and how it wants to be used, read without loading the weights.

Two layouts are taken: the plain one of transformers (config.json, weights, tokenizer), whose
embedding is the last hidden state of the first token, L2-normalised; and that of
sentence-transformers (modules.json, 1_Pooling/config.json), which says its own pooling.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from workers.predictors.protocol import ModelError

WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # in several files: with an index
INDEX = ".index.json"
TOKENIZERS = ("tokenizer.json", "vocab.txt")
POOLINGS = ("cls", "mean", "max", "lasttoken")
FLAGS = {  # sentence-transformers', in 1_Pooling/config.json: our name
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class Layout:
    """How to turn a text into an embedding, as the folder says."""

    pooling: str = "cls"  # cls, mean, max or lasttoken
    normalize: bool = True
    max_tokens: int | None = None  # None: what tokenizer and model take
    lower_case: bool = False
    prompt: str = ""  # put before every text
    transformer: str = ""  # the folder of the weights, within this folder
    pools_prompt: bool = True  # with the text
    prompts: Mapping[str, str] = field(default_factory=dict, compare=False)  # by name


def check(weights: Path) -> None:
    """Raises ModelError, naming the folder of config, weights and tokenizer and what it lacks."""
    missing = [] if (weights / "config.json").is_file() else ["config.json"]
    if not any((weights / f"{name}{end}").is_file() for name in WEIGHTS for end in ("", INDEX)):
        missing.append(" or ".join(WEIGHTS))
    if not any((weights / name).is_file() for name in TOKENIZERS):
        missing.append(" or ".join(TOKENIZERS))
    if missing:
        raise ModelError(
            f"The model's folder {weights} lacks {', and '.join(missing)}. "
            "Download the missing file into it, or give another folder."
        )


def digest(folder: Path) -> str:
    """The first 12 hexadecimal digits of its `sha256`. Raises ModelError."""
    return sha256(folder)[:12]


def sha256(folder: Path) -> str:
    """64 hexadecimal digits, over the names and content of all files but the hidden.

    Raises ModelError if any of them can't be read, or there is none: what it names wouldn't be this
    folder's content.
    """
    total = hashlib.sha256()
    try:
        files = sorted(_files(folder))
        for path in files:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256")
            name = path.relative_to(folder)
            total.update(f"{name.as_posix()} {content.hexdigest()}\n".encode())
    except OSError as error:
        raise ModelError(
            f"The model's folder {folder} can't be read: {error}. Let the user that Velo runs as "
            "read all of it, and see that its disk is there and whole."
        ) from error
    if not files:
        raise ModelError(
            f"The model's folder {folder} holds no file. Download the model into it, or give "
            "another folder."
        )
    return total.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """In the folder at any depth, but nothing hidden; links are followed to files only.

    Raises OSError, where `Path.rglob` would leave out what can't be read.
    """

    def unreadable(error: OSError) -> NoReturn:
        raise error

    for place, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place, name)
            if not name.startswith(".") and stat.S_ISREG(path.stat().st_mode):
                yield path


def layout(folder: Path) -> Layout:
    """Raises ModelError for a module or a pooling that Velo doesn't know."""
    if not folder.is_dir():
        raise ModelError(
            f"{folder} is not a folder. Give the folder that holds the model's config.json."
        )
    if not (folder / "modules.json").is_file():
        return Layout()
    pooling, pools_prompt, normalize, transformer = "", True, False, ""
    for module in read_json(folder / "modules.json"):
        kind = str(module.get("type", "")).rpartition(".")[2]
        if not (folder / module["path"]).resolve().is_relative_to(folder.resolve()):
            raise ModelError(f"{folder}/modules.json names {module['path']}, outside the folder.")
        if kind == "Pooling":
            config = folder / module["path"] / "config.json"
            pooling, pools_prompt = _pooling(config)
        elif kind == "Normalize":
            normalize = True
        elif kind == "Transformer":
            transformer = module["path"]
        else:
            raise ModelError(
                f"{folder}/modules.json asks for the module {kind!r}; Velo knows Transformer, "
                "Pooling and Normalize."
            )
    if not pooling:
        raise ModelError(f"{folder}/modules.json has no Pooling module.")
    reading = _optional(folder / transformer / "sentence_bert_config.json")
    prompts = _optional(folder / "config_sentence_transformers.json")
    named = prompts.get("prompts") or {}
    return Layout(
        pooling=pooling,
        pools_prompt=pools_prompt,
        normalize=normalize,
        max_tokens=reading.get("max_seq_length"),
        lower_case=bool(reading.get("do_lower_case")),
        transformer=transformer,
        prompt=named.get(prompts.get("default_prompt_name"), ""),
        prompts=named,
    )


def _pooling(path: Path) -> tuple[str, bool]:
    """The pooling, and whether a prompt is pooled with the text."""
    config = read_json(path)
    named = config.get("pooling_mode")  # the newer form
    chosen = [str(named)] if named else [k for k, on in config.items() if on and "_mode_" in k]
    pooling = FLAGS.get(chosen[0], chosen[0]) if len(chosen) == 1 else ""
    if pooling not in POOLINGS:
        raise ModelError(
            f"{path} asks for the pooling {' and '.join(chosen) or 'of nothing'}; Velo knows "
            f"{', '.join(POOLINGS)}, one at a time."
        )
    return pooling, config.get("include_prompt") is not False


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def read_json(path: Path) -> Any:
    """Raises ModelError if the file is missing or isn't JSON."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} can't be read as JSON: {error}") from error

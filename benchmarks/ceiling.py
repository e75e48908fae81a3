"""How fast the model is alone: no queue, no HTTP, not even a tokenizer around it.

`python -m benchmarks.ceiling torch` computes with plain torch in fp32, `... engine` with the engine
that Velo chooses; both on all cores, in batches of 32 sorted by length. Prints JSON.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import django

from benchmarks.load import sentences

BATCH = 32
SECONDS = 4.0


def main(what: str) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "velo_site.settings"
    django.setup()
    print(json.dumps({"torch": plain_torch, "engine": engine}[what]()))


def plain_torch() -> dict[str, Any]:
    import torch
    from transformers import AutoModel, AutoTokenizer

    from workers.predictors import declared, folder

    path = declared().folder
    assert path
    layout = folder.layout(path)
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModel.from_pretrained(path, dtype=torch.float32).eval()
    texts = sorted(sentences(), key=lambda text: len(tokenizer(text).input_ids))
    batches = [
        tokenizer(texts[i : i + BATCH], return_tensors="pt", padding=True)
        for i in range(0, len(texts), BATCH)
    ]

    @torch.inference_mode()
    def run(batch: Any) -> None:
        hidden = model(**batch).last_hidden_state
        if layout.pooling == "cls":
            vectors = hidden[:, 0]
        else:
            weights = batch["attention_mask"].unsqueeze(-1)
            vectors = (hidden * weights).sum(1) / weights.sum(1)
        torch.nn.functional.normalize(vectors, dim=1)

    return {"rate": _rate(run, batches, len(texts))}


def engine() -> dict[str, Any]:
    from workers import predictors
    from workers.host import machine

    predictor = predictors.load(predictors.declared(), machine.cores())
    encoded = sorted(predictor.encode(sentences()), key=lambda one: one.tokens)
    batches = [encoded[i : i + BATCH] for i in range(0, len(encoded), BATCH)]
    rate = _rate(predictor.predict, batches, len(encoded))
    alone = []
    for one in predictor.encode(sentences()):  # not sorted: as callers send them
        started = time.perf_counter()
        predictor.predict([one])
        alone.append(time.perf_counter() - started)
    return {"rate": rate, "alone": statistics.median(alone), "chosen": predictor.engine_chosen}


def _rate(run: Callable[[Any], object], batches: list[Any], texts: int) -> float:
    """Texts a second."""
    for batch in batches:
        run(batch)
    rounds, started = 0, time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        for batch in batches:
            run(batch)
        rounds += 1
    return rounds * texts / (time.perf_counter() - started)


if __name__ == "__main__":
    main(sys.argv[1])

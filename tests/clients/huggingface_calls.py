"""Hugging Face's client: `huggingface_calls.py BASE MODEL` prints what it gave, as JSON."""

import json
import sys
from typing import Any

from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

BASE, MODEL = sys.argv[1:]
CLASSIFIER = "colours"
TEXTS = ["Hello, world!", "Тест!", "你好"]


def client(base: str = BASE) -> InferenceClient:
    return InferenceClient(base, provider="hf-inference", api_key="any")


def labels(answer: Any) -> Any:
    return [[one.label, one.score] for one in answer]


def refused(model: InferenceClient, text: str, **how: Any) -> Any:
    try:
        model.feature_extraction(text, **how)
    except HfHubHTTPError as error:
        return [error.response.status_code, error.response.json()]


def main() -> None:
    default, named = client(), client(f"{BASE}/models/{MODEL}")
    colours = client(f"{BASE}/models/{CLASSIFIER}")
    found = {
        "texts": TEXTS,
        "one": default.feature_extraction(TEXTS[0]).tolist(),
        "many": named.feature_extraction(TEXTS).tolist(),
        "longer": named.feature_extraction(TEXTS, normalize=False).tolist(),
        "shorter": named.feature_extraction(TEXTS, dimensions=64).tolist(),
        "similar": named.sentence_similarity(TEXTS[0], other_sentences=TEXTS),
        "labels": labels(colours.text_classification(TEXTS[0])),
        "best": labels(colours.text_classification(TEXTS[0], top_k=1)),
        "logits": labels(colours.text_classification(TEXTS[0], function_to_apply="none")),
        "healthy": [one.health_check() for one in (default, named, colours)],
        "info": named.get_endpoint_info(),
        "blank": refused(named, " "),
        "too long": refused(named, "word " * 1000, truncate=False),
        "unknown model": refused(client(f"{BASE}/models/unknown"), "one"),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()

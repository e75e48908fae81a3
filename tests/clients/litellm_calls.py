"""LiteLLM: `litellm_calls.py BASE MODEL` prints what it gave, as JSON."""

import json
import sys

import litellm

BASE, MODEL = sys.argv[1:]
TEXTS = ["Hello, world!", "Тест!", "How do I reset my password?"]


def main() -> None:
    answer = litellm.embedding(
        model=f"openai/{MODEL}", input=TEXTS, api_base=f"{BASE}/v1", api_key="any"
    )
    found = {
        "texts": TEXTS,
        "vectors": [one["embedding"] for one in answer.data],
        "tokens": answer.usage.total_tokens,
    }
    try:
        litellm.embedding(model="openai/unknown", input=TEXTS, api_base=f"{BASE}/v1", api_key="any")
    except litellm.NotFoundError as error:
        found["unknown model"] = error.message
    print(json.dumps(found))


if __name__ == "__main__":
    main()

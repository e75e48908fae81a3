"""LiteLLM's rerank: `litellm_rerank_calls.py BASE MODEL` prints what it gave, as JSON."""

import json
import sys

import litellm

BASE, MODEL = sys.argv[1:]
QUERY = "How long is a day?"
DOCUMENTS = ["A year has 365 days.", "A day has 24 hours.", "Bread is baked."]


def main() -> None:
    found = {"query": QUERY, "documents": DOCUMENTS}
    for provider, base in (
        ("hosted_vllm", BASE),
        ("jina_ai", BASE),
        ("cohere", f"{BASE}/v2/rerank"),
    ):
        answer = litellm.rerank(
            model=f"{provider}/{MODEL}",
            query=QUERY,
            documents=DOCUMENTS,
            api_base=base,
            api_key="any",
        )
        found[provider] = [[one["index"], one["relevance_score"]] for one in answer.results]
    print(json.dumps(found))


if __name__ == "__main__":
    main()

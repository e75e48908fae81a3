"""Cohere's clients: `cohere_calls.py BASE MODEL` prints what they gave, as JSON."""

import json
import sys
from typing import Any

import cohere

BASE, MODEL = sys.argv[1:]
QUERY = "How long is a day?"
DOCUMENTS = ["A year has 365 days.", "A day has 24 hours.", "Bread is baked."]


def results(answer: Any) -> Any:
    return [[one.index, one.relevance_score] for one in answer.results]


def main() -> None:
    first, second = cohere.Client("any", base_url=BASE), cohere.ClientV2("any", base_url=BASE)
    asked = {"model": MODEL, "query": QUERY, "documents": DOCUMENTS}
    found = {
        "query": QUERY,
        "documents": DOCUMENTS,
        "first": results(first.rerank(**asked)),
        "second": results(second.rerank(**asked)),
        "best": results(second.rerank(**asked, top_n=1)),
        "tokens": second.rerank(**asked).meta.tokens.input_tokens,
    }
    try:
        second.rerank(model="unknown", query=QUERY, documents=DOCUMENTS)
    except cohere.NotFoundError as error:
        found["unknown model"] = error.body["error"]["message"]
    print(json.dumps(found))


if __name__ == "__main__":
    main()

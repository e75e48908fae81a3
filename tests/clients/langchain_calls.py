"""LangChain's client of OpenAI: `langchain_calls.py BASE MODEL` prints what it gave, as JSON."""

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from langchain_openai import OpenAIEmbeddings
from openai import BadRequestError

BASE, MODEL = sys.argv[1:]
# The table of OpenAI's tokenizer, which tiktoken would fetch, comes with LiteLLM.
LITELLM = find_spec("litellm")
assert LITELLM
assert LITELLM.origin
TABLES = Path(LITELLM.origin).with_name("litellm_core_utils") / "tokenizers"
os.environ["TIKTOKEN_CACHE_DIR"] = str(TABLES)
TEXTS = ["Hello, world!", "Тест!", "How do I reset my password?"]


def client(**more: bool) -> OpenAIEmbeddings:
    return OpenAIEmbeddings(base_url=f"{BASE}/v1", api_key="any", model=MODEL, **more)


def main() -> None:
    right = client(check_embedding_ctx_length=False)
    found = {
        "texts": TEXTS,
        "documents": right.embed_documents(TEXTS),
        "query": right.embed_query(TEXTS[0]),
        "many": len(right.embed_documents(["text"] * 1500)),
    }
    try:
        client().embed_query("Hello")
    except BadRequestError as error:
        found["token ids"] = error.message
    print(json.dumps(found))


if __name__ == "__main__":
    main()

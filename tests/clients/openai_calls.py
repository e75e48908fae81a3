"""OpenAI's own client: `openai_calls.py BASE MODEL` prints what each call gave, as JSON."""

import asyncio
import json
import sys
from typing import Any

from openai import APIStatusError, AsyncOpenAI, OpenAI

BASE, MODEL = sys.argv[1:]
CLIENT = OpenAI(base_url=f"{BASE}/v1", api_key="any", max_retries=0)
TEXTS = ["Hello, world!", "Тест!", "How do I reset my password?"]


def vectors(answer: Any) -> Any:
    return {
        "vectors": [one.embedding for one in answer.data],
        "indexes": [one.index for one in answer.data],
        "model": answer.model,
        "tokens": [answer.usage.prompt_tokens, answer.usage.total_tokens],
    }


def embed(text: Any, **more: Any) -> Any:
    return vectors(CLIENT.embeddings.create(input=text, **{"model": MODEL} | more))


def failed(text: Any, **more: Any) -> Any:
    """How the client sees a refusal."""
    try:
        embed(text, **more)
    except APIStatusError as error:
        return {
            "class": type(error).__name__,
            "status": error.status_code,
            "message": error.message,
            "code": error.code,
            "type": error.type,
            "param": error.param,
        }
    return "it didn't fail"


def unknown_path() -> Any:
    try:
        CLIENT.completions.create(model=MODEL, prompt="Hello")
    except APIStatusError as error:
        return [type(error).__name__, error.message]
    return "it didn't fail"


async def asynchronous() -> Any:
    async with AsyncOpenAI(base_url=f"{BASE}/v1", api_key="any") as client:
        answers = await asyncio.gather(
            *(client.embeddings.create(input=text, model=MODEL) for text in TEXTS)
        )
    return [answer.data[0].embedding for answer in answers]


def main() -> None:
    found = {
        "texts": TEXTS,
        "one": embed(TEXTS[0]),
        "many": embed(TEXTS),
        "float": embed(TEXTS, encoding_format="float"),
        "shorter": embed(TEXTS, dimensions=64),
        "asynchronous": asyncio.run(asynchronous()),
        "thousand": embed([f"text {number}" for number in range(1000)]),
        "models": [one.id for one in CLIENT.models.list()],
        "one model": CLIENT.models.retrieve(MODEL).model_dump(),
        "blank": failed(["Hello", " "]),
        "empty": failed([]),
        "unknown model": failed("Hello", model="text-embedding-9"),
        "token ids": failed([[32, 8415]]),
        "too many": failed(["Hello"] * 2049),
        "too many dimensions": failed("Hello", dimensions=385),
        "unknown path": unknown_path(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()

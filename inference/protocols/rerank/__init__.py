"""Cohere's and Jina's way to rank documents by a query. Errors have OpenAI's form, which their
clients read."""

RERANK = ("/v1/rerank", "/v2/rerank", "/rerank")


def asks(path: str) -> bool:
    """Whether a request at this path asks a model."""
    return path in RERANK


speaks = asks  # whether an answer at this path is said in OpenAI's form

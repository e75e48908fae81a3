"""Cohere's and Jina's way to rank documents by a query. Errors have OpenAI's form, which their
clients read."""

RERANK = ("/v1/rerank", "/v2/rerank", "/rerank")

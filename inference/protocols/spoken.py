"""The foreign protocols that Velo speaks."""

from inference.protocols import oip, openai, rerank, tei

PROTOCOLS = openai, rerank, tei, oip


def asks(path: str) -> bool:
    """Whether a request at this path asks a model in a foreign protocol; it may have many
    inputs."""
    return any(protocol.asks(path) for protocol in PROTOCOLS)

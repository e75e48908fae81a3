"""The foreign protocols that Velo speaks."""

from inference.protocols import oip, openai, rerank, tei

PROTOCOLS = openai, rerank, tei, oip


def endpoint(path: str) -> str | None:
    """The name of the protocol in which a request at this path asks a model; None if it asks
    none."""
    for protocol in PROTOCOLS:
        if protocol.asks(path):
            return protocol.__name__.rpartition(".")[2]
    return "velo" if path.endswith("/transform") else None


def asks(path: str) -> bool:
    """Whether a request at this path asks a model in a foreign protocol; it may have many
    inputs."""
    return any(protocol.asks(path) for protocol in PROTOCOLS)

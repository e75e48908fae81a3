"""The Open Inference Protocol, version 2, over HTTP: tensors in, tensors out, as KServe and Triton
speak it."""

from inference.protocols import rerank

SERVER = "/v2"
HEALTH = "/v2/health/"
MODELS = "/v2/models/"
INFER = "/infer"


def asks(path: str) -> bool:
    """Whether a request at this path asks a model."""
    return path.startswith(MODELS) and path.endswith(INFER)


def speaks(path: str) -> bool:
    """Whether an answer at this path is said in this protocol's form."""
    return (path == SERVER or path.startswith(f"{SERVER}/")) and not rerank.speaks(path)


def checks_health(path: str) -> bool:
    """Whether a request at this path asks whether Velo is live or ready."""
    return path.startswith(HEALTH)

"""OpenAI's API: embeddings and the list of models, as its clients ask for them."""

EMBEDDINGS = ("/v1/embeddings", "/embeddings")
MODELS = "/v1/models"
PREFIX = "/v1/"


def asks(path: str) -> bool:
    """Whether a request at this path asks a model."""
    return path in EMBEDDINGS


def speaks(path: str) -> bool:
    """Whether an answer at this path is said in OpenAI's form."""
    return path.startswith(PREFIX) or path in EMBEDDINGS

"""The API of Hugging Face's text-embeddings-inference (TEI), and of its hosted inference.

Both have a base address, "/" or "/models/{model}": TEI's endpoints are below it, and hosted
inference is asked at the base address itself.
"""

BASE = "/"
MODELS = "/models/"
RERANK = "rerank"  # at "/rerank" the body shows whether Cohere's or TEI's API is spoken
ASKING = frozenset(
    ("", "embed", "embed_all", "embed_sparse", "predict", "similarity", "tokenize", RERANK)
)
INFO, HEALTH = "info", "health"


def operation(path: str) -> str | None:
    """What the path adds to a base address: "" for the base address itself; None if it isn't below
    one."""
    if not path.startswith(MODELS):
        return path.removeprefix(BASE) if path.startswith(BASE) else None
    model, slash, rest = path.removeprefix(MODELS).partition("/")
    return rest if model and bool(slash) == bool(rest) else None


def asks(path: str) -> bool:
    """Whether a request at this path asks a model."""
    return operation(path) in ASKING


def speaks(path: str) -> bool:
    """Whether an answer at this path is said in TEI's form."""
    if path == BASE + RERANK:
        return False
    return operation(path) in ASKING | {INFO, HEALTH}


def checks_health(path: str) -> bool:
    """Whether it is asked there if models answer."""
    return operation(path) == HEALTH

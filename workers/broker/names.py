"""The names under which things stand in Redis: queues of RQ's and of model versions, leases."""

QUEUE = "default"  # RQ's own jobs; what a model answers waits in its version's queue
EVERYBODY = "*"  # among the leases: of each worker that is alive, whatever it serves


def is_version(name: str) -> bool:
    """Whether a queue is that of a model version, "name@version"; the others are RQ's own."""
    return "@" in name


def leases_key(name: str) -> str:
    """A sorted set: the workers that serve this queue, by the end of their leases."""
    return f"velo:leases:{name}"

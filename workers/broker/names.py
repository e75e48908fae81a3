"""The names under which things stand in Redis: queues of RQ's and of model versions, leases."""

from enum import StrEnum

from rq import Queue

QUEUE = "default"  # RQ's own jobs; what a model answers waits in its version's queue
EVERYBODY = "*"  # among the leases: of each worker that is alive, whatever it serves


def is_version(name: str) -> bool:
    """Whether a queue is that of a model version, "name@version"; the others are RQ's own."""
    return "@" in name


def leases_key(name: str) -> str:
    """A sorted set: the workers that serve this queue, by the end of their leases."""
    return f"velo:leases:{name}"


class Lane(StrEnum):
    """Which of a queue's two lists a job waits in.

    A worker claims background jobs only while no interactive job waits in any of its queues, and
    an idle worker notices them within a second. Nothing enqueues them yet: they are for batches of
    thousands of inputs, which may wait for hours.
    """

    INTERACTIVE = "interactive"  # RQ's own list
    BACKGROUND = "background"


def lane_key(name: str, lane: Lane) -> str:
    """The list of Redis in which jobs of this queue and lane wait, as the Lua scripts name it."""
    key = Queue.redis_queue_namespace_prefix + name
    return key if lane is Lane.INTERACTIVE else f"{key}:{lane.value}"

"""The figures of the whole system, for /stat and the admin alike."""

from typing import Any

from workers import queue
from workers.latency import response_time
from workers.models import Worker


def stat() -> dict[str, Any]:
    """The same in whichever process it is asked: one database query, two round trips to Redis."""
    workers = Worker.objects.alive().select_related("model_version").order_by("started")
    waiting = queue.load().waiting
    return {
        "workers": {
            worker.id: {
                "last_seen": worker.last_seen.isoformat(),
                "model_version": str(worker.model_version) if worker.model_version else None,
                "node_name": worker.node,
                "model_time": worker.model_time,
            }
            for worker in workers
        },
        "queue_lenght": waiting,
        "queue_length": waiting,
        "response_time": response_time(),
    }

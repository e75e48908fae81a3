"""The figures of the whole system, for /stat and the admin alike."""

from typing import Any

from workers import queue
from workers.figures import BatchFigures
from workers.latency import response_time
from workers.models import Worker


def stat() -> dict[str, Any]:
    """The same in whichever process it is asked: one database query, two round trips to Redis."""
    workers = Worker.objects.alive().select_related("model_version").order_by("started")
    waiting = queue.load().waiting
    by_version: dict[str, list[dict[str, Any]]] = {}
    for worker in workers:
        if worker.model_version:
            by_version.setdefault(str(worker.model_version), []).append(worker.batches)
    return {
        "workers": {
            worker.id: {
                "last_seen": worker.last_seen.isoformat(),
                "model_version": str(worker.model_version) if worker.model_version else None,
                "node_name": worker.node,
                "model_time": worker.model_time,
                "batches": BatchFigures(worker.batches).for_people(),
            }
            for worker in workers
        },
        "model_versions": {
            version: {"workers": len(kept), "batches": BatchFigures.sum(kept).for_people()}
            for version, kept in by_version.items()
        },
        "queue_lenght": waiting,
        "queue_length": waiting,
        "response_time": response_time(),
    }

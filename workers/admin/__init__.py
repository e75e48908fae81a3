"""The admin pages: models and versions, decisions, live workers, queues and jobs, latency,
clients and keys."""

from workers.admin import audit, clients, interventions, latency, models, queues, versions, workers

__all__ = [
    "audit",
    "clients",
    "interventions",
    "latency",
    "models",
    "queues",
    "versions",
    "workers",
]

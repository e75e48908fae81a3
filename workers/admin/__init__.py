"""The admin pages: models and versions, decisions, live workers, queues and jobs, latency,
requests, clients and keys."""

from workers.admin import (
    audit,
    clients,
    interventions,
    latency,
    models,
    queues,
    requests,
    versions,
    workers,
)

__all__ = [
    "audit",
    "clients",
    "interventions",
    "latency",
    "models",
    "queues",
    "requests",
    "versions",
    "workers",
]

"""The admin pages: models and versions, decisions, live workers, queues and jobs, latency."""

from workers.admin import audit, interventions, latency, models, queues, versions, workers

__all__ = ["audit", "interventions", "latency", "models", "queues", "versions", "workers"]

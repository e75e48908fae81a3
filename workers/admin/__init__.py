"""The admin pages: models and versions, decisions, live workers, latency."""

from workers.admin import audit, latency, models, versions, workers

__all__ = ["audit", "latency", "models", "versions", "workers"]

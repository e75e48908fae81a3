"""The cockpit: what serves and who decides it, who is alive, what they run, how fast."""

from workers.admin import audit, latency, models, versions, workers

__all__ = ["audit", "latency", "models", "versions", "workers"]

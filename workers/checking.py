"""The job of a check by the path that stands in queued jobs."""

from workers.catalog.checking import start

__all__ = ["start"]

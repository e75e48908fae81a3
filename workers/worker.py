"""The worker class by the path that settings.RQ and people's settings name it."""

from workers.runtime.worker import InferenceWorker

__all__ = ["InferenceWorker"]

"""The serializer by the path that settings.RQ_QUEUES and people's settings name it."""

from workers.broker.wire import JSONSerializer

__all__ = ["JSONSerializer"]

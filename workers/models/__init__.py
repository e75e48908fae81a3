"""The tables: models and versions, who runs them, who may ask, how fast they answer.

The admin and /stat read through the same QuerySets, so that the two can't disagree.
"""

from workers.models.clients import Client, Key, Usage
from workers.models.interventions import Intervention, Queue
from workers.models.measures import LatencySample, ShadowComparison, WrittenBatch, prune
from workers.models.records import RequestRecord
from workers.models.versions import Change, GoldenInput, ModelVersion, ServedModel
from workers.models.workers import Worker, WorkerQuerySet

__all__ = [
    "Change",
    "Client",
    "GoldenInput",
    "Intervention",
    "Key",
    "LatencySample",
    "ModelVersion",
    "Queue",
    "RequestRecord",
    "ServedModel",
    "ShadowComparison",
    "Usage",
    "Worker",
    "WorkerQuerySet",
    "WrittenBatch",
    "prune",
]

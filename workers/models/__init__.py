"""The tables: which models and versions there are, who runs them, how fast they answer.

The admin and /stat read through the same QuerySets, so that the two can't disagree.
"""

from workers.models.interventions import Intervention, Queue
from workers.models.measures import LatencySample, ShadowComparison, WrittenBatch, prune
from workers.models.versions import Change, GoldenInput, ModelVersion, ServedModel
from workers.models.workers import Worker, WorkerQuerySet

__all__ = [
    "Change",
    "GoldenInput",
    "Intervention",
    "LatencySample",
    "ModelVersion",
    "Queue",
    "ServedModel",
    "ShadowComparison",
    "Worker",
    "WorkerQuerySet",
    "WrittenBatch",
    "prune",
]

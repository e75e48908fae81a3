"""What is measured of a version: how long it takes, and how alike its answers are."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone

from workers.models.clients import Usage
from workers.models.records import RequestRecord
from workers.models.versions import ModelVersion
from workers.models.workers import Worker
from workers.values.histogram import Histogram

USAGE_KEPT = timedelta(days=400)


class LatencySample(models.Model):
    """How long one stage took in one minute with one version, over all processes."""

    class Stage(models.TextChoices):
        """Which part of a request's time."""

        QUEUE = "queue"  # from enqueue to the worker's start
        MODEL = "model"  # in the model
        RESPONSE = "response"  # from HTTP in to HTTP out

    minute = models.DateTimeField()
    stage = models.CharField(max_length=16, choices=Stage)
    model_version = models.ForeignKey(
        ModelVersion, on_delete=models.CASCADE, related_name="latency"
    )
    count = models.PositiveIntegerField(default=0)
    total = models.FloatField(default=0.0, help_text="Seconds.")
    failed = models.PositiveIntegerField(default=0, help_text="Requests without an answer.")
    buckets = models.JSONField(default=dict)

    class Meta:
        ordering = ["-minute", "stage"]
        verbose_name = "latency"
        verbose_name_plural = "latencies"
        constraints = [
            models.UniqueConstraint(
                fields=["minute", "stage", "model_version"], name="one_row_per_minute_and_stage"
            )
        ]

    def __str__(self) -> str:
        return f"{self.stage}, {self.minute:%Y-%m-%d %H:%M}"

    @property
    def histogram(self) -> Histogram:
        return Histogram(self.buckets, self.total)

    @histogram.setter
    def histogram(self, value: Histogram) -> None:
        self.buckets, self.total, self.count = value.to_json(), value.total, value.count


class ShadowComparison(models.Model):
    """How alike a shadow's answers are to the answers that the callers got."""

    shadow = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="compared")
    to = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="+")
    count = models.PositiveBigIntegerField(default=0)
    failed = models.PositiveBigIntegerField(default=0, help_text="The shadow gave no answer.")
    likeness = models.JSONField(default=dict, help_text="As workers.comparing.Likeness keeps it.")
    last = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-last"]
        constraints = [
            models.UniqueConstraint(fields=["shadow", "to"], name="one_row_per_pair_of_versions")
        ]

    def __str__(self) -> str:
        return f"{self.shadow} against {self.to}"


class WrittenBatch(models.Model):
    """A batch of figures that is written (workers.broker.ledger), so that none is written twice."""

    KEPT = timedelta(hours=1)  # much longer than any process takes to write one

    name = models.CharField(max_length=32, primary_key=True)
    at = models.DateTimeField(auto_now_add=True)
    left = models.JSONField(default=list, help_text="What of it had to wait.")

    def __str__(self) -> str:
        return self.name

    @classmethod
    def begin(cls, name: str) -> tuple["WrittenBatch", bool]:
        """And whether the caller is to write it, in the same transaction. Another process that
        writes it at the same time waits for the end of that transaction."""
        cls.objects.filter(at__lt=timezone.now() - cls.KEPT).delete()
        return cls.objects.get_or_create(name=name)


def prune() -> dict[str, int]:
    """Delete what is older than VELO_STATS_DAYS; returns the number of rows by table."""
    oldest = timezone.now() - timedelta(days=settings.VELO_STATS_DAYS)
    deleted: dict[str, Any] = {
        "latency": LatencySample.objects.filter(minute__lt=oldest).delete()[0],
        "workers": Worker.objects.filter(last_seen__lt=oldest).delete()[0],
        "requests": _prune_records(),
        "usage": Usage.objects.filter(day__lt=timezone.now() - USAGE_KEPT).delete()[0],
    }
    return deleted


def _prune_records() -> int:
    """Whole records after VELO_RECORD_DAYS, their inputs after VELO_RECORD_INPUT_DAYS."""
    now = timezone.now()
    days = timedelta(days=settings.VELO_RECORD_INPUT_DAYS)
    RequestRecord.objects.filter(at__lt=now - days).exclude(body="").update(body="")
    oldest = now - timedelta(days=settings.VELO_RECORD_DAYS)
    return RequestRecord.objects.filter(at__lt=oldest).delete()[0]

"""The tables: which model versions exist, who runs them, how fast they answer.

The admin and /stat read through the same QuerySets, so that the two can't disagree.
"""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Case, ExpressionWrapper, F, Q, QuerySet, Value, When
from django.db.models.functions import Now
from django.utils import timezone

from workers.figures import BatchFigures
from workers.histogram import Histogram
from workers.rescue import Loss


class ModelVersion(models.Model):
    """One set of weights. A worker that loads it for the first time registers it."""

    class State(models.TextChoices):
        REGISTERED = "registered"  # known; no worker has loaded it yet
        READY = "ready"  # a worker has loaded it and warmed it up
        REJECTED = "rejected"  # it could not be loaded

    name = models.CharField(max_length=200)
    version = models.CharField(max_length=64, help_text="Made from the content of its files.")
    source = models.CharField(max_length=1000, help_text="Where its files were read.")
    task = models.CharField(max_length=32)
    dimensions = models.PositiveIntegerField(help_text="Numbers in one answer.")
    engine = models.TextField(
        blank=True, help_text="What computes it, and why; as the last worker that loaded it chose."
    )
    state = models.CharField(max_length=16, choices=State, default=State.REGISTERED)
    first_seen = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-first_seen"]
        constraints = [
            models.UniqueConstraint(fields=["name", "version"], name="one_row_per_model_version")
        ]

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


class WorkerQuerySet(QuerySet["Worker"]):
    """Liveness is judged by the database's clock alone, as it is written."""

    def _living(self) -> Q:
        fresh = Now() - timedelta(seconds=settings.VELO_LEASE)
        seen_since = Q(lost_at=None) | Q(last_seen__gt=F("lost_at"))
        return Q(last_seen__gt=fresh) & seen_since & ~Q(state__in=Worker.ENDED)

    def alive(self) -> "WorkerQuerySet":
        return self.filter(self._living())

    def batch_figures(self) -> BatchFigures:
        """Of all these workers together."""
        return BatchFigures.sum(self.values_list("batches", flat=True))

    def record(self, loss: Loss) -> None:
        """That a worker was lost."""
        self.filter(pk=loss.worker).update(
            lost_at=Now(),  # by the clock that wrote last_seen
            jobs_rescued=F("jobs_rescued") + loss.rescued,
            note=f"Lost: {loss.why}. {loss.rescued} jobs were put back"
            + (f", {loss.failed} failed as poisonous." if loss.failed else "."),
        )

    def with_health(self) -> "WorkerQuerySet":
        """Adds `health`: the state, or "lost" where a worker fell silent; and `silent_for`."""
        return self.annotate(
            health=Case(
                When(Q(state__in=Worker.ENDED) | self._living(), then=F("state")),
                default=Value(Worker.LOST),
            ),
            silent_for=ExpressionWrapper(
                Now() - F("last_seen"), output_field=models.DurationField()
            ),
        )


class Worker(models.Model):
    """One worker process, alive or not. The process itself writes this row, every second."""

    class State(models.TextChoices):
        LOADING = "loading"  # reads the model and warms it up
        IDLE = "idle"  # waits for a job
        BUSY = "busy"  # works on one
        STOPPED = "stopped"  # ended in good order
        FAILED = "failed"  # could not start; `note` says why

    ENDED = (State.STOPPED, State.FAILED)
    # Never stored: a row in another state whose last_seen is older than VELO_LEASE or than lost_at.
    LOST = "lost"

    id = models.CharField("ID", primary_key=True, max_length=64)  # the RQ worker's name
    node = models.CharField(max_length=255)
    host = models.CharField(max_length=64, help_text="The machine, whatever its containers say.")
    pid = models.PositiveIntegerField("PID")
    queues = models.CharField(max_length=1000)
    state = models.CharField(max_length=16, choices=State, default=State.LOADING)
    note = models.TextField(blank=True)
    model_version = models.ForeignKey(
        ModelVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="workers"
    )
    started = models.DateTimeField(db_default=Now())
    last_seen = models.DateTimeField(db_default=Now(), db_index=True)
    lost_at = models.DateTimeField(
        null=True, blank=True, help_text="When others noticed that it had died, if ever."
    )
    jobs_rescued = models.PositiveBigIntegerField(
        default=0, help_text="Put back for others to do, when it was lost."
    )
    jobs_done = models.PositiveBigIntegerField(default=0)
    jobs_failed = models.PositiveBigIntegerField(default=0)
    model_time = models.FloatField(
        null=True, blank=True, help_text="Mean seconds in the model, last 1000 calls."
    )
    engine = models.TextField(blank=True, help_text="What computes the model here, and why.")
    batches = models.JSONField(default=dict, help_text="Sizes and padding, since the start.")

    objects = WorkerQuerySet.as_manager()

    class Meta:
        ordering = ["-last_seen"]

    def __str__(self) -> str:
        return self.id


class LatencySample(models.Model):
    """How long one stage took in one minute with one version, over all processes."""

    class Stage(models.TextChoices):
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


def prune() -> dict[str, int]:
    """Delete what is older than VELO_STATS_DAYS; returns the number of rows by table."""
    oldest = timezone.now() - timedelta(days=settings.VELO_STATS_DAYS)
    deleted: dict[str, Any] = {
        "latency": LatencySample.objects.filter(minute__lt=oldest).delete()[0],
        "workers": Worker.objects.filter(last_seen__lt=oldest).delete()[0],
    }
    return deleted

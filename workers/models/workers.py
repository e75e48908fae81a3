"""One row for each worker process, alive or not: its state and its versions."""

from datetime import timedelta

from django.conf import settings
from django.db import models
from django.db.models import Case, ExpressionWrapper, F, Q, QuerySet, Value, When
from django.db.models.functions import Now

from workers.models.versions import ModelVersion
from workers.values.figures import BatchFigures

# Seconds beyond VELO_LEASE after which a worker without news counts as lost. Its reports come every
# few seconds, and may wait until another process is elected to write them. Where other workers
# live, they notice its death much sooner.
DELAY = 9.0
LOST = "Lost: "


class WorkerQuerySet(QuerySet["Worker"]):
    """Liveness is judged by the database's clock alone, as it is written."""

    def _living(self) -> Q:
        fresh = Now() - timedelta(seconds=settings.VELO_LEASE + DELAY)
        seen_since = Q(lost_at=None) | Q(last_seen__gt=F("lost_at"))
        return Q(last_seen__gt=fresh) & seen_since & ~Q(state__in=Worker.ENDED)

    def alive(self) -> "WorkerQuerySet":
        """Workers that haven't ended, whose death nobody noticed, and whose last report was written
        within VELO_LEASE + DELAY seconds."""
        return self.filter(self._living())

    def holding(self, label: str) -> "WorkerQuerySet":
        """Workers that have this version in memory, or are loading it."""
        return self.filter(held__has_key=label)

    def batch_figures(self) -> BatchFigures:
        """Of all these workers together."""
        return BatchFigures.sum(self.values_list("batches", flat=True))

    def record_loss(self, worker: str, why: str, rescued: int, failed: int) -> None:
        """`worker` has died. `rescued`: jobs that were put back; `failed`: poisonous jobs."""
        self.filter(pk=worker).update(
            lost_at=Now(),  # by the clock that wrote last_seen
            jobs_rescued=F("jobs_rescued") + rescued,
            note=f"{LOST}{why}. {rescued} jobs were put back"
            + (f", {failed} failed as poisonous." if failed else "."),
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
    """One worker process, alive or not, as it last reported; see workers.runtime.bookkeeping."""

    class State(models.TextChoices):
        """What the worker says it does; a worker that was killed keeps its last state."""

        LOADING = "loading"  # reads the model and warms it up
        IDLE = "idle"  # waits for a job
        BUSY = "busy"  # works on one
        STOPPED = "stopped"  # ended in good order
        FAILED = "failed"  # could not start; `note` says why

    ENDED = (State.STOPPED, State.FAILED)
    # Never stored: a row in another state that isn't alive, see WorkerQuerySet.
    LOST = "lost"

    id = models.CharField("ID", primary_key=True, max_length=64)  # the RQ worker's name
    node = models.CharField(max_length=255)
    host = models.CharField(max_length=64, help_text="What it shares its cores with.")
    pid = models.PositiveIntegerField("PID")
    queues = models.CharField(max_length=1000)
    follows = models.BooleanField(
        default=True, help_text="It holds what the admin says, and no versions of its own choice."
    )
    state = models.CharField(max_length=16, choices=State, default=State.LOADING)
    note = models.TextField(blank=True)
    model_version = models.ForeignKey(
        ModelVersion,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="workers",
        help_text="The first of the versions that it holds.",
    )
    declared = models.CharField(
        max_length=300,
        blank=True,
        db_default="",
        help_text="The version that its environment names, once it is registered.",
    )
    started = models.DateTimeField(db_default=Now())
    # Without an index: PostgreSQL then writes a new one into the same page, and no index (HOT).
    last_seen = models.DateTimeField(db_default=Now())
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
    held = models.JSONField(
        default=dict, help_text="Each version it holds or is told to: its state, and figures."
    )
    engine = models.TextField(blank=True, help_text="What computes the model here, and why.")
    batches = models.JSONField(default=dict, help_text="Sizes and padding, since the start.")

    objects = WorkerQuerySet.as_manager()

    class Meta:
        ordering = ["-last_seen"]

    def __str__(self) -> str:
        return self.id

    @property
    def serves(self) -> list[str]:
        """Labels of the versions that it has in memory."""
        return [label for label, one in self.held.items() if one["state"] == "ready"]

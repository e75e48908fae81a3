"""What people do to queues and jobs, which are in Redis, and the permissions for it."""

from django.db import models
from django.db.models import QuerySet

from workers.models.versions import Change


class NotStored(models.Manager["Queue"]):
    def get_queryset(self) -> QuerySet["Queue"]:
        return super().get_queryset().none()


class Queue(models.Model):
    """RQ's queues and their jobs. There is no such table: the model carries the permissions, and
    the admin's pages have their place by it."""

    objects = NotStored()

    class Meta:
        managed = False
        verbose_name_plural = "queues and jobs"
        default_permissions = ("view",)
        # The first doesn't begin with "view": a user who may see everything else may not see this.
        permissions = [
            ("read_job_input", "Can read the inputs and the answers of jobs"),
            ("empty_queue", "Can empty a queue"),
            ("requeue_job", "Can requeue jobs"),
            ("cancel_job", "Can cancel jobs"),
            ("delete_job", "Can delete jobs"),
        ]

    def __str__(self) -> str:
        return "queue"


class Intervention(models.Model):
    """The audit trail of queues: each action with its user, jobs and reason. Never deleted."""

    class Action(models.TextChoices):
        EMPTY = "empty"  # all waiting jobs of a queue are deleted
        REQUEUE = "requeue"
        CANCEL = "cancel"
        DELETE = "delete"

    Outcome = Change.Outcome

    action = models.CharField(max_length=16, choices=Action)
    queue = models.CharField(max_length=300)
    jobs = models.TextField(blank=True, help_text="Ids of the chosen jobs, a line each.")
    by = models.CharField(max_length=200)
    reason = models.TextField()
    at = models.DateTimeField(auto_now_add=True)
    outcome = models.CharField(max_length=16, choices=Outcome, default=Outcome.PENDING)
    ended = models.DateTimeField(null=True, blank=True)
    detail = models.TextField(blank=True)

    class Meta:
        ordering = ["-at", "-pk"]
        verbose_name = "queue audit trail entry"
        verbose_name_plural = "queue audit trail entries"

    def __str__(self) -> str:
        return f"{self.action} {self.queue}"

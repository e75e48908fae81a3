"""Records of requests: each failure and refusal, and a share of the successes."""

from django.db import models


class RequestRecord(models.Model):
    """One request for a model; or, if `count` is above 1, refusals of one sort within seconds."""

    uid = models.CharField(max_length=32, unique=True, editable=False)  # none is written twice
    request_id = models.CharField(max_length=128, db_index=True)
    at = models.DateTimeField(db_index=True, help_text="When it was answered.")
    count = models.PositiveIntegerField(default=1)
    client = models.CharField(max_length=100, blank=True)
    endpoint = models.CharField(max_length=16, help_text="The protocol.")
    model = models.CharField(max_length=200, blank=True)
    version = models.CharField(max_length=64, blank=True)
    worker = models.CharField(max_length=300, blank=True)
    status = models.PositiveSmallIntegerField()
    code = models.CharField(max_length=64, blank=True, help_text="Of an error.")
    detail = models.TextField(blank=True, help_text="What its caller was told.")
    inputs = models.PositiveIntegerField(default=0)
    tokens = models.PositiveBigIntegerField(default=0)
    size = models.PositiveBigIntegerField("bytes", default=0, help_text="Of the body.")
    queue_seconds = models.FloatField(null=True)
    model_seconds = models.FloatField(null=True)
    total_seconds = models.FloatField(null=True)
    job = models.CharField(max_length=64, blank=True, db_index=True)
    attempts = models.JSONField(default=list, help_text="Of its job: at, worker, outcome, seconds.")
    digest = models.CharField(
        max_length=64, blank=True, db_index=True, help_text="SHA-256 of the body."
    )
    body = models.TextField(blank=True, help_text="With VELO_RECORD_INPUTS.")

    class Meta:
        ordering = ["-at", "-pk"]
        verbose_name = "request"
        permissions = [("read_request_input", "Can read the inputs of requests")]

    def __str__(self) -> str:
        return self.request_id

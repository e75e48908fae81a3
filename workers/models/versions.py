"""Models, their versions, their golden inputs, and the audit trail."""

from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q, Value
from django.utils import timezone


class Kind(models.TextChoices):
    """What a model does; workers/predictors has a file for each."""

    EMBED = "embed"  # a text to a vector
    CLASSIFY = "classify"  # a text to a score for every label
    RERANK = "rerank"  # a query and texts to a score for every text
    NER = "ner"  # a text to the names in it
    SPARSE = "sparse"  # a text to weights of a vocabulary's tokens
    SLEEP = "sleep"  # a stand-in that only sleeps
    CUSTOM = "custom"  # a class of the user's own


PLAIN = RegexValidator(
    r"^[^/@\s]+\Z",
    "It stands in addresses and names of queues: without slashes, @ and white space.",
)


JSON_NULL = Value(None, models.JSONField())  # None is SQL's NULL


class ServedModel(models.Model):
    """A model by its name: which of its versions answer, and which share of the requests."""

    name = models.CharField(primary_key=True, max_length=200, validators=[PLAIN])
    kind = models.CharField(max_length=16, choices=Kind, default=Kind.EMBED)
    is_default = models.BooleanField(
        "default", default=False, help_text="/transform asks this model."
    )
    follows_environment = models.BooleanField(
        default=True,
        help_text="Until a person activates a version, each worker serves the version that it is "
        "started with (VELO_MODEL_PATH).",
    )
    active = models.ForeignKey(
        "ModelVersion", null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    previous = models.ForeignKey(
        "ModelVersion",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="The version that was active before: a rollback activates it again.",
    )
    canary = models.ForeignKey(
        "ModelVersion", null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    canary_share = models.PositiveSmallIntegerField(
        default=0,
        validators=[MaxValueValidator(99)],
        help_text="Per cent of the requests that the canary answers.",
    )
    shadow = models.ForeignKey(
        "ModelVersion", null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    shadow_share = models.PositiveSmallIntegerField(
        default=0,
        validators=[MaxValueValidator(100)],
        help_text="Per cent of the requests of which the shadow gets a copy.",
    )

    class Meta:
        ordering = ["name"]
        verbose_name = "model"
        constraints = [
            models.UniqueConstraint(
                fields=["is_default"], condition=Q(is_default=True), name="one_default_model"
            )
        ]

    def __str__(self) -> str:
        return self.name


class ModelVersion(models.Model):
    """One set of weights, with how they are to be used. `workers.lifecycle` moves it on."""

    class State(models.TextChoices):
        """Where a version stands; docs/models.md shows the transitions."""

        REGISTERED = "registered"  # known; not checked yet
        CHECKING = "checking"  # a worker loads it and tries it out
        READY = "ready"  # passed its checks: it may be activated
        ACTIVE = "active"  # answers its model's requests
        RETIRED = "retired"  # was active; may be activated again
        REJECTED = "rejected"  # failed its checks: `reason` says why

    model = models.ForeignKey(ServedModel, on_delete=models.PROTECT, related_name="versions")
    version = models.CharField(max_length=64, validators=[PLAIN])
    source = models.CharField(
        max_length=1000,
        blank=True,
        help_text="A folder under VELO_MODEL_ROOTS, package:NAME, or hub:ORG/NAME@REVISION.",
    )
    options = models.JSONField(default=dict, blank=True, help_text="As its kind knows them.")
    digest = models.CharField(max_length=64, blank=True, help_text="SHA-256 over all its files.")
    dimensions = models.PositiveIntegerField(default=0, help_text="Numbers in one answer.")
    facts = models.JSONField(
        default=dict,
        blank=True,
        help_text="What clients ask of it, as max_tokens and labels; read when it was last loaded.",
    )
    memory = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Bytes that it takes in a worker; measured by its check."
    )
    engine = models.TextField(
        blank=True, help_text="What computes it, and why; as the last worker that loaded it chose."
    )
    schemas = models.JSONField(
        default=dict, blank=True, help_text="JSON Schema of input and output, if it has its own."
    )
    state = models.CharField(max_length=16, choices=State, default=State.REGISTERED)
    reason = models.TextField(blank=True, help_text="Why it was rejected.")
    checks = models.JSONField(
        default=list, blank=True, help_text="Each step of its last check, and what it found."
    )
    checked_at = models.DateTimeField(null=True, blank=True)
    first_seen = models.DateTimeField("registered", auto_now_add=True)
    registered_by = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-first_seen"]
        permissions = [
            ("activate_modelversion", "Can decide which versions serve"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["model", "version"], name="one_row_per_model_version")
        ]

    def __str__(self) -> str:
        return self.label

    @property
    def label(self) -> str:
        """ "name@version": as in headers, in /stat, and the name of its queue."""
        return f"{self.model_id}@{self.version}"


class GoldenInputs(models.QuerySet["GoldenInput"]):
    def unanswered(self) -> "GoldenInputs":
        """Without an expected answer: SQL's NULL. JSON's null is an answer."""
        return self.filter(expected__isnull=True)


class GoldenInput(models.Model):
    """An input with the answer that every version of its model must give.

    `expected` is None in Python both without an answer and where the answer is JSON's null;
    `unanswered` tells them apart, and JSON_NULL writes the second.
    """

    model = models.ForeignKey(ServedModel, on_delete=models.CASCADE, related_name="golden_inputs")
    input = models.JSONField()
    expected = models.JSONField(
        null=True,
        blank=True,
        help_text="Empty: the next check of another version records what the active version "
        "answers. Without an active version, nothing is compared.",
    )
    tolerance = models.FloatField(
        default=0.01,
        validators=[MinValueValidator(0.0)],
        help_text="How far any number may be from the expected one.",
    )
    changed = models.DateTimeField(auto_now=True)
    recorded_from = models.CharField(max_length=300, blank=True, editable=False)

    objects = GoldenInputs.as_manager()

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        shown = str(self.input)
        return shown if len(shown) <= 60 else f"{shown[:60]}…"

    def is_unanswered(self) -> bool:
        """As the database has it."""
        return GoldenInput.objects.unanswered().filter(pk=self.pk).exists()

    def record(self, answer: Any, label: str) -> None:
        """Expect from now on what this version answers, unless an answer is expected already.
        Versions that were checked before have to be checked again."""
        GoldenInput.objects.unanswered().filter(pk=self.pk).update(
            expected=Value(answer, models.JSONField()), recorded_from=label, changed=timezone.now()
        )


class Change(models.Model):
    """The audit trail: every change of what serves, with user, reason and result. Never deleted."""

    class Action(models.TextChoices):
        """What was decided."""

        ACTIVATE = "activate"
        ROLLBACK = "rollback"
        CANARY = "canary"  # a share of the requests; 0: it is over
        SHADOW = "shadow"  # a copy of a share of the requests; 0: it is over
        DEFAULT = "default"  # /transform asks another model
        REGISTER = "register"

    class Outcome(models.TextChoices):
        """What came of it. Only a pending change may still end otherwise."""

        PENDING = "pending"  # workers are loading it
        DONE = "done"
        FAILED = "failed"  # nothing has changed; `detail` says why
        CANCELLED = "cancelled"  # by a person, before it was done

    model = models.ForeignKey(ServedModel, on_delete=models.PROTECT, related_name="changes")
    action = models.CharField(max_length=16, choices=Action)
    from_version = models.ForeignKey(
        ModelVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    to_version = models.ForeignKey(
        ModelVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    share = models.PositiveSmallIntegerField(null=True, blank=True, help_text="Per cent.")
    by = models.CharField(max_length=200)
    reason = models.TextField()
    at = models.DateTimeField(auto_now_add=True)
    outcome = models.CharField(max_length=16, choices=Outcome, default=Outcome.DONE)
    ended = models.DateTimeField(null=True, blank=True)
    detail = models.TextField(blank=True)

    class Meta:
        ordering = ["-at", "-pk"]
        verbose_name = "audit trail entry"
        verbose_name_plural = "audit trail entries"
        constraints = [
            models.UniqueConstraint(
                fields=["model"], condition=Q(outcome="pending"), name="one_pending_change_a_model"
            )
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.to_version or ''}".strip()

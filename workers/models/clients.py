"""Clients: their keys, their limits, and what they have used."""

from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import QuerySet
from django.utils import timezone

from workers.models.versions import ServedModel

NAME = RegexValidator(
    r"^[A-Za-z0-9][A-Za-z0-9._ -]*$",
    "Use letters, digits, blanks, dots, hyphens and underscores; begin with a letter or a digit.",
)


class Client(models.Model):
    """Somebody with keys of its own. The limits hold for all its keys together."""

    name = models.CharField(max_length=100, unique=True, validators=[NAME])
    note = models.CharField(max_length=300, blank=True, help_text="For people.")
    is_enabled = models.BooleanField(
        "enabled", default=True, help_text="Without it, none of its keys is valid."
    )
    asks_all_models = models.BooleanField(default=True, help_text="Otherwise only these:")
    models_allowed = models.ManyToManyField(ServedModel, blank=True, verbose_name="models")
    inputs_per_minute = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Empty: no limit. After a pause as many may come at once; a request counts with "
        "all its inputs.",
    )
    tokens_per_day = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="That models read, from midnight to midnight UTC. Empty: no limit.",
    )
    inputs_at_once = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="That wait or are computed. A request with more inputs is refused. Empty: no "
        "limit.",
    )
    is_background = models.BooleanField(
        "background",
        default=False,
        help_text="Its inputs wait behind the inputs of the other clients.",
    )
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class KeyQuerySet(models.QuerySet["Key"]):
    def valid(self) -> QuerySet["Key"]:
        """Neither revoked nor expired, of an enabled client."""
        now = timezone.now()
        unexpired = models.Q(expires=None) | models.Q(expires__gt=now)
        return self.filter(unexpired, revoked=None, client__is_enabled=True)


class Key(models.Model):
    """A client's API key. The key itself is shown once, when it is made; only its hash is kept."""

    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="keys")
    prefix = models.CharField(max_length=16, help_text="How the key begins.")
    digest = models.CharField(max_length=64, unique=True, editable=False)  # SHA-256, hexadecimal
    created = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=200)
    last_used = models.DateTimeField(null=True, blank=True)
    expires = models.DateTimeField(null=True, blank=True)
    revoked = models.DateTimeField(null=True, blank=True)
    revoked_by = models.CharField(max_length=200, blank=True)

    objects = KeyQuerySet.as_manager()

    class Meta:
        ordering = ["-created"]

    def __str__(self) -> str:
        return f"{self.prefix}…"

    @property
    def state(self) -> str:
        """valid, expired or revoked."""
        if self.revoked:
            return "revoked"
        return "expired" if self.expires and self.expires <= timezone.now() else "valid"


class Usage(models.Model):
    """What a client had answered by a model on one day (UTC)."""

    client = models.CharField(max_length=100, blank=True, help_text="Empty: without a key.")
    model = models.CharField(max_length=100)
    day = models.DateField()
    inputs = models.PositiveBigIntegerField(default=0)
    tokens = models.PositiveBigIntegerField(default=0, help_text="That the model read.")

    class Meta:
        ordering = ["-day", "client", "model"]
        verbose_name_plural = "usage"
        constraints = [
            models.UniqueConstraint(
                fields=["client", "model", "day"], name="one_row_per_client_model_and_day"
            )
        ]

    def __str__(self) -> str:
        return f"{self.client or 'without a key'}, {self.model}, {self.day}"

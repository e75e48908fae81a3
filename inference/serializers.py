"""The wire contract: what is taken, what is given; the Swagger schema derives from it."""

import math

from django.conf import settings
from rest_framework import serializers

from inference.errors import InvalidTimeout
from workers.models.versions import Kind, ModelVersion


def check_timeout(header: str | None) -> float:
    """Seconds that the caller waits, VELO_REQUEST_TIMEOUT at most. Raises InvalidTimeout."""
    most: float = settings.VELO_REQUEST_TIMEOUT
    if header is None:
        return most
    try:
        seconds = float(header)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:  # also true of NaN
        raise InvalidTimeout(
            f"X-Request-Timeout: {header[:40]!r} is not a number of seconds above 0. "
            "Send for example 2.5."
        )
    return min(seconds, most)


class ProblemSerializer(serializers.Serializer):
    """Problem details, RFC 9457."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField(help_text="What happened and what to do.")
    code = serializers.CharField(help_text="Stable, for programs.")
    job_id = serializers.CharField(required=False, help_text="Look it up in the admin.")


class BatchesSerializer(serializers.Serializer):
    count = serializers.IntegerField(help_text="Model calls since the start.")
    mean_size = serializers.FloatField(allow_null=True, help_text="Texts in one call.")
    sizes = serializers.DictField(
        child=serializers.IntegerField(), help_text="Texts in a call: how many calls had as many."
    )
    padding = serializers.FloatField(
        allow_null=True, help_text="The share of what the model computed that was padding, 0 to 1."
    )


class VersionStatSerializer(serializers.Serializer):
    workers = serializers.IntegerField(help_text="Alive, with this version loaded.")
    batches = BatchesSerializer(help_text="Of these workers together.")


class WorkerStatSerializer(serializers.Serializer):
    last_seen = serializers.DateTimeField()
    model_version = serializers.CharField(allow_null=True)
    node_name = serializers.CharField()
    model_time = serializers.FloatField(
        allow_null=True, help_text="Mean seconds in the model, last 1000 calls."
    )
    batches = BatchesSerializer()


class StatSerializer(serializers.Serializer):
    workers = serializers.DictField(
        child=WorkerStatSerializer(), help_text="Live workers by their id."
    )
    model_versions = serializers.DictField(
        child=VersionStatSerializer(), help_text="What the live workers have loaded."
    )
    queue_lenght = serializers.IntegerField(help_text="As queue_length; the name it was born with.")
    queue_length = serializers.IntegerField(help_text="Inputs that wait.")
    response_time = serializers.FloatField(
        allow_null=True, help_text="Mean seconds from HTTP in to HTTP out, last 1000 answers."
    )
    database_age = serializers.FloatField(
        help_text="Seconds since `workers` and `model_versions` were read: 0, unless the database "
        "is away; then they are the last that this web process knows."
    )


class ShareSerializer(serializers.Serializer):
    version = serializers.CharField()
    percent = serializers.IntegerField(help_text="Of the requests.")


class ListedVersionSerializer(serializers.Serializer):
    state = serializers.ChoiceField(ModelVersion.State.values)
    workers = serializers.IntegerField(help_text="That serve it.")


class ListedModelSerializer(serializers.Serializer):
    kind = serializers.ChoiceField(Kind.values)
    active = serializers.CharField(
        allow_null=True,
        help_text="The version that answers, except for the canary's share. Null: no version is "
        "active, and each worker answers with the version that it was started with.",
    )
    canary = ShareSerializer(allow_null=True, help_text="Answers a share of the requests.")
    shadow = ShareSerializer(allow_null=True, help_text="Gets a copy of a share of the requests.")
    versions = serializers.DictField(child=ListedVersionSerializer())


class ModelsSerializer(serializers.Serializer):
    default = serializers.CharField(allow_null=True, help_text="The model that /transform asks.")
    models = serializers.DictField(child=ListedModelSerializer(), help_text="By their name.")


class LiveSerializer(serializers.Serializer):
    status = serializers.ChoiceField(["live"])


class ReadySerializer(serializers.Serializer):
    status = serializers.ChoiceField(["ready"])
    workers = serializers.IntegerField(help_text="Alive, with a loaded model.")

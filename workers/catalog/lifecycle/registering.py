"""A version comes in, and is checked."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from redis.exceptions import RedisError

from workers.broker.connection import queue
from workers.broker.names import QUEUE
from workers.catalog import sources
from workers.catalog.lifecycle.rules import must_be_spare
from workers.catalog.lifecycle.states import Action, Refused, State, move
from workers.catalog.lifecycle.trail import locked, publish
from workers.catalog.lifecycle.turns import asked
from workers.models import Change, ModelVersion, ServedModel
from workers.models.versions import Kind

CHECK = "workers.checking.start"  # the job
SILENT = 10.0  # seconds after which a check that says nothing counts as interrupted


def register(
    name: str,
    version: str,
    source: str,
    *,
    by: str,
    kind: str = Kind.EMBED,
    options: Mapping[str, Any] | None = None,
) -> ModelVersion:
    """A new version, which is checked next. An empty `version` is made from the content of its
    files.

    Raises Refused.
    """
    try:
        folder = sources.open_source(source)
        digest = sources.digest(folder) if folder else ""
    except sources.SourceError as error:
        raise Refused(str(error)) from error
    version = version or digest[:12]
    if not version:
        raise Refused("A version of a model without files needs a name. Say which, as in 1.0.")
    with transaction.atomic():
        model, _ = ServedModel.objects.get_or_create(
            name=name, defaults={"kind": kind, "follows_environment": False}
        )
        model = locked(model.pk)  # a second registration at the same time is refused
        if model.kind != kind:
            raise Refused(
                f"{name} is a model of kind {model.kind}, and so are all its versions. Register "
                f"one of kind {kind} under another name."
            )
        row = ModelVersion(
            model=model,
            version=version,
            source=source,
            options=dict(options or {}),
            digest=digest,
            registered_by=by,
        )
        try:
            model.full_clean(validate_unique=False)
            row.full_clean()
        except ValidationError as error:
            raise Refused(_already(row) or _sentence(error)) from error
        row.save()
        Change.objects.create(
            model=model,
            action=Action.REGISTER,
            to_version=row,
            by=by,
            reason=f"from {source or kind}",
            ended=timezone.now(),
        )
    with suppress(Refused):  # then `reason` says why
        request_check(row)
    return row


def _sentence(error: ValidationError) -> str:
    return "; ".join(f"{name}: {' '.join(found)}" for name, found in error.message_dict.items())


def _already(row: ModelVersion) -> str:
    """Why a version of this name can't be registered again; empty if there is none."""
    there = ModelVersion.objects.filter(model=row.model, version=row.version).first()
    if not there:
        return ""
    if there.digest == row.digest:
        return f"{row} is registered already, with the same files."
    return (
        f"{row} is registered already, and its files were others. A version never changes: give "
        "the new files a version of their own."
    )


def request_check(version: ModelVersion) -> None:
    """Let a worker load it and try it out, when it is its turn. Raises Refused."""
    with transaction.atomic():
        must_be_spare(locked(version.model_id), version)
        silent = timezone.now() - timedelta(seconds=SILENT)
        ModelVersion.objects.filter(
            pk=version.pk, state=State.CHECKING, checked_at__lt=silent
        ).update(state=State.REGISTERED)
        move(version, State.CHECKING, checks=[asked()], reason="", checked_at=None)
    try:
        queue(QUEUE).enqueue_call(
            CHECK,
            args=[version.pk],
            description=f"check {version}",
            timeout=settings.VELO_JOB_TIMEOUT,
            result_ttl=settings.VELO_RESULT_TTL,
            failure_ttl=settings.VELO_FAILURE_TTL,
        )
    except RedisError as error:
        why = f"Redis can't be reached, so no worker knows: {error}. Check it again."
        move(version, State.REGISTERED, reason=why)
        raise Refused(why) from error
    publish()


def give_up_silent_checks() -> None:
    """Their process has died with its worker: they may be asked for again."""
    silent = timezone.now() - timedelta(seconds=SILENT)
    ModelVersion.objects.filter(state=State.CHECKING, checked_at__lt=silent).update(
        state=State.REGISTERED, reason="Its check was interrupted. Check it again."
    )

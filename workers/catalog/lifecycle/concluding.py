"""What comes of decisions, and of the environments that workers are started in."""

from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from workers.catalog.lifecycle.progress import progress
from workers.catalog.lifecycle.registering import request_check
from workers.catalog.lifecycle.states import Action, Outcome, Refused, State, move
from workers.catalog.lifecycle.trail import all_locked, publish, write
from workers.models import Change, ModelVersion, ServedModel

ENVIRONMENT = "environment"  # who declares a version


def declare(
    name: str, version: str, source: str, *, kind: str, digest: str, worker: str, **fields: Any
) -> ModelVersion:
    """A worker was started with this version. It becomes its model's active one, unless a person
    has decided what is: then it is registered and checked. And its model becomes the default, if
    the last default came from an environment too. `fields`: further fields of ModelVersion.
    """
    with transaction.atomic():
        ServedModel.objects.get_or_create(name=name, defaults={"kind": kind})
        model = all_locked()[name]
        row, new = ModelVersion.objects.get_or_create(
            model=model,
            version=version,
            defaults={"source": source, "digest": digest, "registered_by": ENVIRONMENT},
        )
        ModelVersion.objects.filter(pk=row.pk).update(**fields)
        others = ServedModel.objects.filter(is_default=True).exclude(pk=model.pk)
        if not others.filter(follows_environment=False).exists() and not model.is_default:
            others.update(is_default=False)
            model.is_default = True
            model.save()
        if model.follows_environment and model.active_id != row.pk:
            change = Change(
                model=model,
                action=Action.ACTIVATE,
                from_version=model.active,
                to_version=row,
                by=ENVIRONMENT,
                reason=f"Worker {worker} was started with it.",
                ended=timezone.now(),
            )
            write(change)
            _switch(model, row)
    row.refresh_from_db()
    if new and row.state == State.REGISTERED:
        with suppress(Refused):  # then `reason` says why
            request_check(row)
    return row


def _switch(model: ServedModel, to: ModelVersion) -> None:
    if model.active_id != to.pk:  # an environment may have made it active meanwhile
        if model.active:
            move(model.active, State.RETIRED)
        move(to, State.ACTIVE)
        model.previous, model.active = model.active, to
    for role in ("canary", "shadow"):
        if getattr(model, f"{role}_id") == to.pk:
            setattr(model, role, None)
            setattr(model, f"{role}_share", 0)
    model.save()


def conclude() -> None:
    """End each activation of which all workers have said how it went."""
    for change in Change.objects.filter(outcome=Outcome.PENDING).select_related("to_version"):
        so_far = progress(change)
        late = timezone.now() - change.at > timedelta(seconds=settings.VELO_ACTIVATION_TIMEOUT)
        if so_far.failures:
            end(change, Outcome.FAILED, so_far.failures[0])
        elif so_far.enough:
            try:
                end(change, Outcome.DONE)
            except Refused as error:  # it isn't what it was when it was chosen
                end(change, Outcome.FAILED, str(error))
        elif late:
            end(change, Outcome.FAILED, f"Not done in time: {so_far}.")


def end(change: Change, outcome: Outcome, detail: str = "") -> None:
    """Close a pending change, once; DONE also activates its version. Raises Refused."""
    with transaction.atomic():
        models = all_locked()
        model = models[change.model_id]
        ended = Change.objects.filter(pk=change.pk, outcome=Outcome.PENDING).update(
            outcome=outcome, ended=timezone.now(), detail=detail
        )
        if ended and outcome == Outcome.DONE and change.to_version:
            model.follows_environment = False
            model.is_default |= not any(one.is_default for one in models.values())
            _switch(model, change.to_version)
    publish()

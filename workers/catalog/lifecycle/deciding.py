"""Which version answers, and which share of the requests: what a person decides."""

from django.db import transaction
from django.utils import timezone

from workers.catalog.lifecycle.rules import (
    must_be_loadable,
    must_be_servable,
    must_have_met_golden_inputs,
)
from workers.catalog.lifecycle.states import Action, Outcome, Refused
from workers.catalog.lifecycle.trail import all_locked, locked, publish, write
from workers.models import Change, ModelVersion, ServedModel


def activate(
    version: ModelVersion, *, by: str, reason: str, action: Action = Action.ACTIVATE
) -> Change:
    """Let the workers load it; when they have, it answers. Raises Refused."""
    with transaction.atomic():
        model = locked(version.model_id)
        if model.active_id == version.pk:
            raise Refused(f"{version} is active already.")
        must_be_servable(version)
        must_be_loadable(version)
        if action == Action.ACTIVATE:
            must_have_met_golden_inputs(version)
        change = write(
            Change(
                model=model,
                action=action,
                from_version=model.active,
                to_version=version,
                by=by,
                reason=reason,
                outcome=Outcome.PENDING,
            )
        )
    publish()
    return change


def rollback(model: ServedModel, *, by: str, reason: str) -> Change:
    """To the version that was active before. Raises Refused."""
    model.refresh_from_db()
    if model.previous is None:
        raise Refused(f"{model} has had no other version active: there is nothing to go back to.")
    return activate(model.previous, by=by, reason=reason, action=Action.ROLLBACK)


def cancel(model: ServedModel, *, by: str) -> None:
    """The activation that is going on; what served before goes on serving. Raises Refused."""
    with transaction.atomic():
        model = locked(model.pk)
        ended = Change.objects.filter(model=model, outcome=Outcome.PENDING).update(
            outcome=Outcome.CANCELLED, ended=timezone.now(), detail=f"Cancelled by {by}."
        )
    if not ended:
        raise Refused(f"Nothing is being activated for {model}: it is over already.")
    publish()


def set_canary(
    model: ServedModel, version: ModelVersion | None, percent: int, *, by: str, reason: str
) -> Change:
    """Let `version` answer `percent` of the model's requests; None ends the canary.

    Raises Refused.
    """
    return _set_share(model, Action.CANARY, version, percent, 99, by=by, reason=reason)


def set_shadow(
    model: ServedModel, version: ModelVersion | None, percent: int, *, by: str, reason: str
) -> Change:
    """Let `version` have a copy of `percent` of the model's requests; None ends the shadow.

    Raises Refused.
    """
    return _set_share(model, Action.SHADOW, version, percent, 100, by=by, reason=reason)


def _set_share(
    model: ServedModel,
    action: Action,
    version: ModelVersion | None,
    percent: int,
    most: int,
    *,
    by: str,
    reason: str,
) -> Change:
    with transaction.atomic():
        model = locked(model.pk)
        before: ModelVersion | None = getattr(model, action.value)
        if version:
            if version.model_id != model.pk:
                raise Refused(f"{version} isn't a version of {model}.")
            if version.pk == model.active_id:
                raise Refused(f"{version} is active: it can't be the {action.value} beside itself.")
            if model.active is None:
                raise Refused(f"{model} has no active version. Activate one first.")
            must_be_servable(version)
            if action == Action.CANARY:
                must_have_met_golden_inputs(version)
            if not 1 <= percent <= most:
                raise Refused(f"The share of a {action.value} is 1 to {most} per cent.")
        elif not before:
            raise Refused(f"{model} has no {action.value}.")
        setattr(model, action.value, version)
        setattr(model, f"{action.value}_share", percent if version else 0)
        model.save()
        change = write(
            Change(
                model=model,
                action=action,
                from_version=before,
                to_version=version,
                share=percent if version else 0,
                by=by,
                reason=reason,
                ended=timezone.now(),
            )
        )
    publish()
    return change


def make_default(model: ServedModel, *, by: str, reason: str) -> Change:
    """/transform asks this model from now on. Raises Refused."""
    with transaction.atomic():
        model = all_locked()[model.pk]
        if model.active is None:
            raise Refused(f"{model} has no active version. Activate one first.")
        if model.is_default:
            raise Refused(f"{model} is the default already.")
        before = ServedModel.objects.filter(is_default=True).select_related("active").first()
        ServedModel.objects.filter(is_default=True).update(is_default=False)
        ServedModel.objects.filter(pk=model.pk).update(is_default=True)
        change = write(
            Change(
                model=model,
                action=Action.DEFAULT,
                from_version=before.active if before else None,
                to_version=model.active,
                by=by,
                reason=reason,
                ended=timezone.now(),
            )
        )
    publish()
    return change

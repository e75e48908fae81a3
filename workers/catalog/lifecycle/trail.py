"""How a decision is taken: one at a time, for a reason, written down, and then published."""

import logging

from django.db import IntegrityError, transaction
from redis.exceptions import RedisError

from workers.catalog import plan
from workers.catalog.lifecycle.states import Outcome, Refused
from workers.models import Change, ServedModel

log = logging.getLogger(__name__)


def locked(name: str) -> ServedModel:
    """Until the end of the transaction nobody else decides about this model."""
    return ServedModel.objects.select_for_update(of=("self",)).get(pk=name)


def all_locked() -> dict[str, ServedModel]:
    """By name; in one order everywhere, so that two processes can't lock each other out."""
    locked = ServedModel.objects.select_for_update(of=("self",)).order_by("pk")
    return {model.pk: model for model in locked}


def publish() -> None:
    """What is decided stands in the database; while Redis is away, the workers publish it later."""
    try:
        plan.publish()
    except RedisError as error:
        log.warning("the plan isn't published yet: Redis: %s", error)


def write(change: Change) -> Change:
    """Raises Refused without a reason, or while another activation goes on."""
    if not change.reason.strip():
        raise Refused("Say why: the audit trail keeps the reason.")
    try:
        with transaction.atomic():
            change.save()
    except IntegrityError as error:
        other = Change.objects.filter(model=change.model, outcome=Outcome.PENDING).get()
        raise Refused(
            f"{other.by} is activating {other.to_version} since {other.at:%H:%M:%S}. Wait until "
            "that is over, or cancel it."
        ) from error
    return change

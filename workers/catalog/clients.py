"""Clients and their keys: made, revoked, and published as grants for the web processes."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Prefetch
from django.utils import timezone

from workers.broker import grants
from workers.broker.grants import Grant
from workers.models import Client, Key, ServedModel

BEGINNING = "velo-"  # of each key: tools that look for leaked keys can know it
RANDOM_BYTES = 32
SHOWN = 12  # characters of a key that are kept


class Refused(Exception):
    """What can't be done, and the cure."""


@dataclass(frozen=True)
class NewKey:
    """A key, this once."""

    row: Key
    key: str


def make_key(client: Client, by: str, expires: datetime | None = None) -> NewKey:
    """It is valid when it is published. Raises Refused."""
    if expires and expires <= timezone.now():
        raise Refused(f"The key would expire at {expires:%Y-%m-%d %H:%M} UTC, which is over.")
    key = BEGINNING + secrets.token_urlsafe(RANDOM_BYTES)
    row = Key.objects.create(
        client=client,
        prefix=key[:SHOWN],
        digest=grants.digest(key),
        created_by=by,
        expires=expires,
    )
    return NewKey(row, key)


def revoke(keys: Sequence[Key], by: str) -> int:
    """Keys that are revoked stay so; returns how many were valid. Raises RedisError when they are
    revoked but it isn't published; the elected worker tries again each second."""
    done = Key.objects.filter(pk__in=[key.pk for key in keys], revoked=None).update(
        revoked=timezone.now(), revoked_by=by
    )
    publish()
    return done


def decided() -> dict[str, Grant]:
    """As the database has it: the grants of the valid keys by their digests. Two queries."""
    names = Prefetch("client__models_allowed", ServedModel.objects.only("name"))
    rows = Key.objects.valid().select_related("client").prefetch_related(names)
    return {row.digest: _grant(row) for row in rows}


def publish() -> None:
    """See to it that Redis has what the database says. Raises RedisError."""
    if grants.are_published(decided()):
        return
    # One at a time, so that older grants never replace newer grants.
    with transaction.atomic():
        list(Client.objects.select_for_update().order_by("pk"))
        grants.publish(decided())


def _grant(row: Key) -> Grant:
    client = row.client
    chosen = tuple(sorted(model.name for model in client.models_allowed.all()))
    return Grant(
        client=client.name,
        models=None if client.asks_all_models else chosen,
        inputs_per_minute=client.inputs_per_minute,
        tokens_per_day=client.tokens_per_day,
        inputs_at_once=client.inputs_at_once,
        background=client.is_background,
        expires=row.expires.timestamp() if row.expires else None,
        key=row.pk,
    )

"""What clients have used: counted in Redis by the script that finishes jobs, kept in a table."""

import csv
from collections.abc import Mapping
from datetime import UTC, date, datetime
from io import StringIO
from typing import NamedTuple

from django.db.models import F, Q, QuerySet

from workers.broker.ledger import Field
from workers.models import Key as ApiKey
from workers.models import Usage
from workers.values.version_id import VersionId

USAGE = "usage"  # the first word of its fields in the ledger; see finish.lua
KEY = "key"  # and of the times of keys
DAY = 86_400  # seconds


class Key(NamedTuple):
    """What usage is summed by."""

    client: str
    model: str
    day: date


class Used(NamedTuple):
    """Of a model, on a day."""

    inputs: int = 0
    tokens: int = 0


def from_figures(figures: Mapping[Field, float]) -> dict[Key, Used]:
    """The usage among all figures that the ledger has."""
    found: dict[Key, Used] = {}
    for (first, *words), number in figures.items():
        if first != USAGE:
            continue
        client, label, day, what = words
        when = datetime.fromtimestamp(int(day) * DAY, tz=UTC).date()
        key = Key(client, VersionId.parse(label).model, when)
        so_far = found.get(key, Used())
        found[key] = so_far._replace(**{what: getattr(so_far, what) + round(number)})
    return found


def to_figures(keys: Mapping[int, float]) -> dict[Field, float]:
    """When API keys were used last, in Unix seconds, by their primary keys. The ledger keeps the
    least of several numbers, so they are negative there."""
    return {(KEY, str(key)): -at for key, at in keys.items()}


def store_keys(figures: Mapping[Field, float]) -> None:
    """When keys were used last, in the transaction of the caller."""
    for (first, *words), number in figures.items():
        if first != KEY:
            continue
        at = datetime.fromtimestamp(-number, tz=UTC)
        earlier = Q(last_used=None) | Q(last_used__lt=at)
        ApiKey.objects.filter(earlier, pk=int(words[0])).update(last_used=at)


def store(used: Mapping[Key, Used]) -> None:
    """Add it to the rows, in the transaction of the caller."""
    if not used:
        return
    Usage.objects.bulk_create([Usage(**key._asdict()) for key in used], ignore_conflicts=True)
    for key, one in used.items():
        Usage.objects.filter(**key._asdict()).update(
            inputs=F("inputs") + one.inputs, tokens=F("tokens") + one.tokens
        )


def as_csv(rows: QuerySet[Usage]) -> str:
    """With a head; the days as YYYY-MM-DD."""
    text = StringIO()
    writer = csv.writer(text)
    writer.writerow(("day", "client", "model", "inputs", "tokens"))
    for row in rows.iterator():
        writer.writerow((row.day, row.client, row.model, row.inputs, row.tokens))
    return text.getvalue()

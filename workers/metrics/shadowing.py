"""Collects how alike a shadow's answers are to the callers' answers."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from workers.broker.ledger import Field
from workers.models import ShadowComparison
from workers.values.comparing import Likeness

SHADOW = "shadow"  # the first word of its fields in the ledger
TOTAL, FAILED, LEAST = "total", "failed", "least"  # and the last, or the name of a range

Pair = tuple[str, str]  # labels of the shadow and of the version that answered the callers


@dataclass
class Compared:
    """Two versions."""

    likeness: Likeness = field(default_factory=Likeness)
    failed: int = 0  # the shadow gave no answer


class Comparisons:
    """Of one process, as far as they aren't in the ledger yet. A few numbers for each pair of
    versions, however long Redis is away."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[Pair, Compared] = {}

    def add(self, shadow: str, to: str, likeness: float | None) -> None:
        """Labels of both versions, and how alike their answers are; None: the shadow gave none."""
        with self._lock:
            compared = self._pending.setdefault((shadow, to), Compared())
            if likeness is None:
                compared.failed += 1
            else:
                compared.likeness.add(likeness)

    def take(self) -> dict[Pair, Compared]:
        """All of them; they are the caller's now."""
        with self._lock:
            pending, self._pending = self._pending, {}
        return pending


def sums(pending: Mapping[Pair, Compared]) -> dict[Field, float]:
    """What the ledger adds up of them."""
    found: dict[Field, float] = {}
    for pair, compared in pending.items():
        numbers = {TOTAL: compared.likeness.total, FAILED: compared.failed}
        numbers.update(compared.likeness.counts)
        found |= {(SHADOW, *pair, what): number for what, number in numbers.items() if number}
    return found


def minima(pending: Mapping[Pair, Compared]) -> dict[Field, float]:
    """Of which the ledger keeps the least."""
    return {
        (SHADOW, *pair, LEAST): compared.likeness.least
        for pair, compared in pending.items()
        if compared.likeness.least is not None
    }


def from_figures(figures: Mapping[Field, float]) -> dict[Pair, Compared]:
    """The comparisons among all figures that the ledger has."""
    found: dict[Pair, Compared] = {}
    for (first, *rest), number in figures.items():
        if first != SHADOW:
            continue
        shadow, to, what = rest
        compared = found.setdefault((shadow, to), Compared())
        if what == TOTAL:
            compared.likeness.total = number
        elif what == FAILED:
            compared.failed = round(number)
        elif what == LEAST:
            compared.likeness.least = number
        else:
            compared.likeness.counts[what] = round(number)
    return found


def store(compared: Mapping[Pair, Compared], ids: Mapping[str, int]) -> None:
    """Add them to the rows, in the transaction of the caller. `ids`: primary keys of the registered
    versions, by label; what belongs to others is dropped, since these are gone."""
    for (shadow, to), one in sorted(compared.items()):
        if shadow in ids and to in ids:
            _add(ids[shadow], ids[to], one)


def _add(shadow: int, to: int, compared: Compared) -> None:
    ShadowComparison.objects.get_or_create(shadow_id=shadow, to_id=to)
    row = ShadowComparison.objects.select_for_update().get(shadow_id=shadow, to_id=to)
    likeness = Likeness(row.likeness)
    likeness.merge(compared.likeness)
    row.likeness, row.count = likeness.to_json(), likeness.count
    row.failed += compared.failed
    row.save()

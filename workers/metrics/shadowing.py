"""Collects how alike a shadow's answers are to the callers' answers, and writes it in bulk."""

import threading
from dataclasses import dataclass, field

from django.db import transaction

from workers.models import ModelVersion, ShadowComparison
from workers.values.comparing import Likeness


@dataclass
class Compared:
    """Two versions, since the last write."""

    likeness: Likeness = field(default_factory=Likeness)
    failed: int = 0  # the shadow gave no answer


class Comparisons:
    """Of one process, as far as they aren't in the database yet. A few numbers for each pair of
    versions, however long it is away."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[tuple[str, str], Compared] = {}

    def add(self, shadow: str, to: str, likeness: float | None) -> None:
        """Labels of both versions, and how alike their answers are; None: the shadow gave none."""
        with self._lock:
            compared = self._pending.setdefault((shadow, to), Compared())
            if likeness is None:
                compared.failed += 1
            else:
                compared.likeness.add(likeness)

    def flush(self) -> None:
        """What can't be written stays; what belongs to a version that is gone doesn't."""
        with self._lock:
            pending, self._pending = self._pending, {}
        if not pending:
            return
        try:
            ids = {str(row): row.pk for row in ModelVersion.objects.all()}
            for (shadow, to), compared in sorted(pending.items()):
                if shadow in ids and to in ids:
                    _store(ids[shadow], ids[to], compared)
        except Exception:
            self._keep(pending)
            raise

    def _keep(self, pending: dict[tuple[str, str], Compared]) -> None:
        with self._lock:
            for pair, compared in pending.items():
                kept = self._pending.setdefault(pair, Compared())
                kept.likeness.merge(compared.likeness)
                kept.failed += compared.failed


def _store(shadow: int, to: int, compared: Compared) -> None:
    with transaction.atomic():
        ShadowComparison.objects.get_or_create(shadow_id=shadow, to_id=to)
        row = ShadowComparison.objects.select_for_update().get(shadow_id=shadow, to_id=to)
        likeness = Likeness(row.likeness)
        likeness.merge(compared.likeness)
        row.likeness, row.count = likeness.to_json(), likeness.count
        row.failed += compared.failed
        row.save()

"""Writes into the database what all processes have reported: one elected worker does this."""

import json
import logging
from collections.abc import Mapping
from datetime import datetime
from itertools import groupby
from typing import Any

from django.db import DataError, IntegrityError, transaction

from workers.broker import ledger, reports
from workers.catalog import lifecycle
from workers.metrics import latency, records, shadowing, usage
from workers.models import ModelVersion, Worker, WrittenBatch
from workers.models.workers import LOST

log = logging.getLogger(__name__)

# Of a worker's row, what its reports say. `last_seen` is the time of the database.
REPORTED = [
    *("node", "host", "pid", "queues", "follows", "state", "note", "started", "last_seen"),
    *("declared", "model_version", "jobs_done", "jobs_failed", "model_time", "held", "engine"),
    "batches",
]
OURS = {"declared", "model_version", "last_seen"}  # which the writer makes of them


def write() -> None:
    """All that waits now. What is written is forgotten in Redis; what isn't is written next time.
    Two processes may do this at once.

    Raises RedisError, DatabaseError or InterfaceError.
    """
    # First: a worker that died before has reported before, and a later write must not revive it.
    batch = ledger.take()
    said = reports.waiting()
    if said:
        _write_reports(_readable(said))
        reports.forget(said)
    if batch:
        ledger.settle(batch, _write_batch(batch))
    records.write()


def _readable(said: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """By worker. Another version of Velo may have written others."""
    found = {}
    for worker in sorted(said):
        one = json.loads(said[worker])
        if one.keys() >= set(REPORTED) - OURS | {"declares", "serves"}:
            found[worker] = one
    return found


def _write_reports(said: Mapping[str, dict[str, Any]]) -> None:
    known = {row.pk: row for row in Worker.objects.filter(pk__in=said)}
    _declare([(worker, one) for worker, one in said.items() if _has_news(known.get(worker), one)])
    ids = _version_ids()
    _save([_row(worker, one, known.get(worker), ids) for worker, one in said.items()])


def _save(rows: list[Worker]) -> None:
    try:
        Worker.objects.bulk_create(
            rows, update_conflicts=True, unique_fields=["id"], update_fields=REPORTED
        )
    except (DataError, IntegrityError) as error:  # of one of them, which mustn't stop the others
        if len(rows) == 1:
            log.error("worker %s: its report can't be written: %s", rows[0].pk, error)
            return
        for row in rows:
            _save([row])


def _is_same(row: Worker | None, said: Mapping[str, Any]) -> bool:
    """Whether the row is that of this process. A worker that was restarted under a name given to
    it (`--name`) takes up its old row."""
    return row is not None and row.started == datetime.fromisoformat(said["started"])


def _has_news(row: Worker | None, said: Mapping[str, Any]) -> bool:
    """Whether it declares a version, and hasn't declared it before."""
    label = said["declares"] and said["declares"]["label"]
    return bool(label and not (row and _is_same(row, said) and row.declared == label))


def _declare(news: list[tuple[str, dict[str, Any]]]) -> None:
    """In the order of their starts, and once for all that started with the same version. An error
    is logged, and the next reports try again."""
    news = sorted(news, key=lambda one: one[1]["started"])
    for _, group in groupby(news, key=lambda one: one[1]["declares"]["label"]):
        (worker, said), *others = group
        fields = {name: value for name, value in said["declares"].items() if name != "label"}
        try:
            lifecycle.declare(**fields, worker=worker)
        except (DataError, IntegrityError, lifecycle.Refused) as error:
            log.error("worker %s: its version can't be registered: %s", worker, error)
            for _, one in [(worker, said), *others]:
                one["declares"] = None


def _row(
    worker: str, said: Mapping[str, Any], known: Worker | None, ids: Mapping[str, int]
) -> Worker:
    fields = {name: said[name] for name in REPORTED if name in said}
    fields["started"] = datetime.fromisoformat(said["started"])
    if known and _is_same(known, said) and known.note.startswith(LOST) and not said["note"]:
        fields["note"] = known.note  # it came back; why it was missed stays
    declares = said["declares"]
    return Worker(
        id=worker,
        declared=declares["label"] if declares else "",
        model_version_id=ids.get(said["serves"]),
        **fields,
    )


def _write_batch(batch: ledger.Batch) -> dict[ledger.Field, float]:
    """Returns what has to wait for the registration of its version."""
    with transaction.atomic():
        written, is_new = WrittenBatch.begin(batch.name)
        if is_new:  # otherwise the process that wrote it has died, or is about to settle it
            ids = _version_ids()
            left = latency.store(latency.from_figures(batch.figures), ids)
            shadowing.store(shadowing.from_figures(batch.figures), ids)
            usage.store(usage.from_figures(batch.figures))
            usage.store_keys(batch.figures)
            for loss in batch.losses:
                Worker.objects.record_loss(**loss)
            written.left = list(latency.to_figures(left).items())
            written.save()
    return {tuple(field): number for field, number in written.left}


def _version_ids() -> dict[str, int]:
    return {str(row): row.pk for row in ModelVersion.objects.only("model_id", "version")}

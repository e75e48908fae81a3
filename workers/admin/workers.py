"""The live workers, and what each worker holds."""

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from workers.admin.addresses import queue_link
from workers.admin.look import (
    NOTHING,
    Window,
    ago,
    badge,
    bars,
    decimal,
    labelled,
    megabytes,
    milliseconds,
    percent,
    since,
    table,
    whole,
)
from workers.models import Worker
from workers.values.figures import BatchFigures

HELD = ("state", "since", "memory", "model time", "batch", "padding", "engine")


def held_row(held: Mapping[str, Any]) -> list[object]:
    """What a worker says of one version, in the order of HELD."""
    figures = BatchFigures(held.get("batches"))
    why = held.get("error", "")
    return [
        format_html("{} {}", badge(held.get("state", NOTHING)), why),
        since(held.get("since")),
        megabytes(held.get("memory")),
        milliseconds(held.get("model_time")),
        decimal(figures.mean_size),
        percent(figures.padding),
        held.get("engine") or NOTHING,
    ]


class HealthFilter(admin.SimpleListFilter):
    title = "health"
    parameter_name = "health"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        states = [(state.value, state.label) for state in Worker.State]
        return [("alive", "Alive"), *states, (Worker.LOST, "Lost")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Worker]) -> QuerySet[Worker]:
        match self.value():
            case None:
                return queryset
            case "alive":
                return queryset.filter(pk__in=Worker.objects.alive())
            case health:
                return queryset.filter(Q(health=health))


class HoldsFilter(admin.SimpleListFilter):
    title = "what it holds"
    parameter_name = "holds"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        labels = {label for held in Worker.objects.values_list("held", flat=True) for label in held}
        if asked := self.value():
            labels.add(asked)
        return [(label, label) for label in sorted(labels)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Worker]) -> QuerySet[Worker]:
        label = self.value()
        return queryset.filter(pk__in=Worker.objects.holding(label)) if label else queryset


@admin.register(Worker)
class WorkerAdmin(Window):
    heading = "Workers"
    list_display = (
        "name",
        "health",
        "seen",
        "holds",
        "node",
        "done",
        "failed",
        "mean_model_time",
        "batch_size",
        "padding",
    )
    list_filter = (HealthFilter, "node", HoldsFilter)
    search_fields = ("id", "node", "note")
    fields = (
        "id",
        "health",
        "note",
        "seen",
        "held_versions",
        "queue_links",
        "node",
        "host",
        "pid",
        "started",
        "last_seen",
        "lost_at",
        "jobs_rescued",
        "jobs_done",
        "jobs_failed",
        "mean_model_time",
        "batch_size",
        "batch_sizes",
        "padding",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Worker]:
        return Worker.objects.with_health()

    @admin.display(description="worker", ordering="id")
    def name(self, worker: Worker) -> SafeString:
        return format_html("<code>{}</code>", worker.id[:12])

    @admin.display(description="state", ordering="health")
    def health(self, worker: Any) -> SafeString:
        return badge(worker.health, worker.note)

    @admin.display(description="seen", ordering="-last_seen")
    def seen(self, worker: Any) -> SafeString:
        return ago(worker.silent_for)

    @admin.display(description="model versions")
    def holds(self, worker: Worker) -> SafeString:
        """Each in a line of its own, with its state unless that is as it should be."""
        lines = [
            format_html("{} {}", labelled(label), badge(one["state"], one.get("error", "")))
            if one["state"] != "ready"
            else labelled(label)
            for label, one in sorted(worker.held.items())
        ]
        return whole(format_html_join("", "<div>{}</div>", ((line,) for line in lines)) or NOTHING)

    @admin.display(description="model versions")
    def held_versions(self, worker: Worker) -> SafeString:
        rows = [[labelled(label), *held_row(one)] for label, one in sorted(worker.held.items())]
        return table(["version", *HELD], rows)

    @admin.display(description="queues")
    def queue_links(self, worker: Worker) -> str:
        links = ((queue_link(name),) for name in worker.queues.split(",") if name)
        return format_html_join(", ", "{}", links)

    @admin.display(description="done", ordering="jobs_done")
    def done(self, worker: Worker) -> int:
        return worker.jobs_done

    @admin.display(description="failed", ordering="jobs_failed")
    def failed(self, worker: Worker) -> int:
        return worker.jobs_failed

    @admin.display(description="model time", ordering="model_time")
    def mean_model_time(self, worker: Worker) -> SafeString:
        return milliseconds(worker.model_time)

    @admin.display(description="batch")
    def batch_size(self, worker: Worker) -> str:
        return decimal(BatchFigures(worker.batches).mean_size)

    @admin.display(description="batches by size")
    def batch_sizes(self, worker: Worker) -> SafeString:
        return bars(BatchFigures(worker.batches).ranges())

    @admin.display(description="padding")
    def padding(self, worker: Worker) -> SafeString:
        return percent(BatchFigures(worker.batches).padding)

"""The cockpit: who is alive, what they run, how fast. A window: processes write these rows."""

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django_rq.settings import get_queues_map

from workers.figures import BatchFigures
from workers.models import LatencySample, ModelVersion, Worker

NOTHING = "–"
COLOURS = {
    ModelVersion.State.REGISTERED: "waiting",
    ModelVersion.State.READY: "good",
    ModelVersion.State.REJECTED: "bad",
    Worker.State.LOADING: "waiting",
    Worker.State.IDLE: "good",
    Worker.State.BUSY: "active",
    Worker.State.STOPPED: "ended",
    Worker.State.FAILED: "bad",
    Worker.LOST: "bad",
}


def badge(state: str, why: str = "") -> SafeString:
    return format_html(
        '<span class="velo-badge velo-{}" title="{}">{}</span>', COLOURS[state], why, state
    )


def whole(text: object) -> SafeString:
    """Not to be broken into two lines."""
    return format_html('<span class="velo-nowrap">{}</span>', text)


def ago(silent_for: timedelta) -> SafeString:
    """How long ago, in the one unit that says it: "3 s ago"."""
    seconds = max(0, int(silent_for.total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return whole(f"{seconds // length} {unit} ago")
    return whole(f"{seconds} s ago")


def milliseconds(seconds: float | None) -> SafeString:
    return whole(NOTHING if seconds is None else f"{seconds * 1000:.1f} ms")


def link(url: str, text: object) -> SafeString:
    return format_html('<a href="{}">{}</a>', url, text)


def decimal(number: float | None) -> str:
    return NOTHING if number is None else f"{number:.1f}"


def percent(share: float | None) -> SafeString:
    return whole(NOTHING if share is None else f"{share:.1%}")


def bars(counts: dict[str, int]) -> SafeString:
    """One bar for each count, the longest as long as there is room."""
    if not counts:
        return whole(NOTHING)
    most = max(counts.values())
    rows = format_html_join(
        "",
        '<tr><th>{}</th><td><meter max="{}" value="{}"></meter></td><td>{}</td></tr>',
        ((name, most, count, f"{count:,}") for name, count in counts.items()),
    )
    return format_html('<table class="velo-bars">{}</table>', rows)


class Window(admin.ModelAdmin):
    """Read-only: a person has no business writing what processes report."""

    heading: str

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().changelist_view(request, {"title": self.heading, **(extra_context or {})})

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


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


@admin.register(Worker)
class WorkerAdmin(Window):
    heading = "Workers"
    list_display = (
        "name",
        "health",
        "seen",
        "version",
        "queue_links",
        "node",
        "done",
        "failed",
        "mean_model_time",
        "batch_size",
        "padding",
    )
    list_filter = (HealthFilter, "node", "model_version")
    search_fields = ("id", "node", "note")
    fields = (
        "id",
        "health",
        "note",
        "seen",
        "version",
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
        "engine",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Worker]:
        return Worker.objects.with_health().select_related("model_version")

    @admin.display(description="worker", ordering="id")
    def name(self, worker: Worker) -> SafeString:
        return format_html("<code>{}</code>", worker.id[:12])

    @admin.display(description="state", ordering="health")
    def health(self, worker: Any) -> SafeString:
        return badge(worker.health, worker.note)

    @admin.display(description="seen", ordering="-last_seen")
    def seen(self, worker: Any) -> SafeString:
        return ago(worker.silent_for)

    @admin.display(description="model version", ordering="model_version")
    def version(self, worker: Worker) -> str:
        if worker.model_version is None:
            return NOTHING
        url = reverse("admin:workers_modelversion_change", args=[worker.model_version.pk])
        return link(url, worker.model_version)

    @admin.display(description="queues")
    def queue_links(self, worker: Worker) -> str:
        known = get_queues_map()
        return format_html_join(
            ", ",
            '<a href="{}">{}</a>',
            (
                (reverse("admin:django_rq_jobs", args=[known[name]]), name)
                for name in worker.queues.split(",")
                if name in known
            ),
        )

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


@admin.register(ModelVersion)
class ModelVersionAdmin(Window):
    heading = "Model versions"
    list_display = (
        "title",
        "state_badge",
        "task",
        "dimensions",
        "live_workers",
        "batch_size",
        "padding",
        "latency",
        "first_seen",
    )
    list_filter = ("state", "task", "name")
    search_fields = ("name", "version", "source")
    fields = (
        "name",
        "version",
        "state_badge",
        "task",
        "dimensions",
        "source",
        "first_seen",
        "engine",
        "live_workers",
        "batch_size",
        "batch_sizes",
        "padding",
        "latency",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelVersion]:
        alive = Count("workers", filter=Q(workers__in=Worker.objects.alive()))
        return super().get_queryset(request).annotate(alive=alive)

    @admin.display(description="model version", ordering="name")
    def title(self, version: ModelVersion) -> str:
        return str(version)

    @admin.display(description="state", ordering="state")
    def state_badge(self, version: ModelVersion) -> SafeString:
        return badge(version.state)

    @admin.display(description="live workers", ordering="alive")
    def live_workers(self, version: Any) -> SafeString:
        url = reverse("admin:workers_worker_changelist")
        return link(f"{url}?health=alive&model_version__id__exact={version.pk}", version.alive)

    @admin.display(description="batch")
    def batch_size(self, version: ModelVersion) -> str:
        return decimal(version.workers.alive().batch_figures().mean_size)

    @admin.display(description="batches by size")
    def batch_sizes(self, version: ModelVersion) -> SafeString:
        return bars(version.workers.alive().batch_figures().ranges())

    @admin.display(description="padding")
    def padding(self, version: ModelVersion) -> SafeString:
        return percent(version.workers.alive().batch_figures().padding)

    @admin.display(description="latency")
    def latency(self, version: ModelVersion) -> SafeString:
        url = reverse("admin:workers_latencysample_changelist")
        return link(f"{url}?model_version__id__exact={version.pk}", "by minute")


@admin.register(LatencySample)
class LatencySampleAdmin(Window):
    heading = "Latency by minute"
    list_display = ("minute", "stage", "version", "count", "mean", "p50", "p95", "p99")
    list_filter = ("stage", "model_version")
    date_hierarchy = "minute"
    fields = list_display
    list_select_related = ("model_version",)

    @admin.display(description="model version", ordering="model_version")
    def version(self, sample: LatencySample) -> SafeString:
        url = reverse("admin:workers_modelversion_change", args=[sample.model_version.pk])
        return link(url, sample.model_version)

    @admin.display(description="mean")
    def mean(self, sample: LatencySample) -> SafeString:
        return milliseconds(sample.histogram.mean)

    @admin.display(description="p50")
    def p50(self, sample: LatencySample) -> SafeString:
        return milliseconds(sample.histogram.quantile(0.50))

    @admin.display(description="p95")
    def p95(self, sample: LatencySample) -> SafeString:
        return milliseconds(sample.histogram.quantile(0.95))

    @admin.display(description="p99")
    def p99(self, sample: LatencySample) -> SafeString:
        return milliseconds(sample.histogram.quantile(0.99))

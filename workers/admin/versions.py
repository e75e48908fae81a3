"""Model versions: how far each has come, who holds it; registering, checking and activating one."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.formats import localize
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from workers.admin.decisions import REGISTER, Decides
from workers.admin.look import (
    NOTHING,
    as_json,
    as_written,
    badge,
    bars,
    decimal,
    in_two,
    link,
    linked,
    listed,
    megabytes,
    moment,
    page,
    percent,
    seconds,
    short,
    table,
    whole,
)
from workers.admin.registering import Registration
from workers.admin.version_decisions import DECISIONS, pending
from workers.admin.workers import HELD, held_row
from workers.catalog import lifecycle
from workers.models import LatencySample, ModelVersion, Worker
from workers.values.figures import BatchFigures
from workers.values.version_id import VersionId

State = ModelVersion.State


@admin.register(ModelVersion)
class ModelVersionAdmin(Decides):
    heading = "Model versions"
    list_display = (
        "title",
        "state_badge",
        "kind",
        "short_source",
        "numbers",
        "size",
        "live_workers",
        "latency",
        "registered_on",
    )
    list_filter = ("state", "model")
    list_select_related = ("model",)
    search_fields = ("model__name", "version", "source")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "model_link",
                    "version",
                    "state_and_reason",
                    "progress",
                    "kind",
                    "source",
                    "shown_options",
                    "shown_schemas",
                    "digest",
                    "dimensions",
                    "shown_facts",
                    "size",
                    "engine",
                    "registered",
                )
            },
        ),
        ("Last check", {"fields": ("check_steps",), "classes": ("velo-wide",)}),
        ("Live workers", {"fields": ("in_workers",), "classes": ("velo-wide",)}),
        ("Figures", {"fields": ("latency", "batch_size", "padding", "batch_sizes")}),
    )
    decisions = DECISIONS

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelVersion]:
        return super().get_queryset(request).select_related("model", "model__active")

    def enrich(self, rows: Sequence[Any]) -> None:
        """From one reading of all live workers; each row gets its own part of it."""
        said = list(Worker.objects.alive().values_list("held", flat=True))
        for version in rows:
            version.held = [held[version.label] for held in said if version.label in held]

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> ModelVersion | None:
        """By its label too: that is all that workers say of it."""
        try:
            wanted = VersionId.parse(object_id)
        except ValueError:
            return super().get_object(request, object_id, from_field)
        rows = self.get_queryset(request)
        return rows.filter(model=wanted.model, version=wanted.version).first()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(REGISTER)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def refreshes(self, row: ModelVersion) -> bool:
        return row.state == State.CHECKING or pending(row)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Not Django's own: that is one transaction, and the check must find the version."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = Registration(request.POST if request.method == "POST" else None, request.GET)
        if form.is_valid() and (version := form.register(by=request.user.get_username())):
            messages.success(request, f"{version} is registered, and is being checked.")
            return HttpResponseRedirect(page(version))
        context = {
            **self.admin_site.each_context(request),
            "title": "Register a model version",
            "question": "A worker will load it and try it out. Nobody gets its answers yet.",
            "button": "Register",
            "form": form,
            "opts": self.opts,
            "back": listed(ModelVersion),
        }
        return TemplateResponse(request, "admin/workers/decide.html", context)

    @admin.display(description="model version", ordering="model")
    def title(self, version: ModelVersion) -> SafeString:
        return in_two(version.label)

    @admin.display(description="model")
    def model_link(self, version: ModelVersion) -> SafeString:
        return linked(version.model)

    @admin.display(description="state", ordering="state")
    def state_badge(self, version: ModelVersion) -> SafeString:
        turn = "checking: waits for its turn" if lifecycle.waits(version) else ""
        return self._badges(version, turn)

    def _badges(self, version: ModelVersion, text: str = "") -> SafeString:
        badges = [badge(version.state, version.reason, text)]
        for role in ("canary", "shadow"):
            if getattr(version.model, f"{role}_id") == version.pk:
                share = getattr(version.model, f"{role}_share")
                badges.append(badge(role, text=f"{role} {share} %"))
        return format_html_join(" ", "{}", ((one,) for one in badges))

    @admin.display(description="state")
    def state_and_reason(self, version: ModelVersion) -> SafeString:
        said = lifecycle.turn_of(version) or version.reason
        return format_html("{} {}", self._badges(version), said)

    @admin.display(description="kind", ordering="model__kind")
    def kind(self, version: ModelVersion) -> str:
        return version.model.kind

    @admin.display(description="source", ordering="source")
    def short_source(self, version: ModelVersion) -> SafeString:
        return short(version.source)

    @admin.display(description="dim.", ordering="dimensions")
    def numbers(self, version: ModelVersion) -> int | str:
        return version.dimensions or NOTHING

    @admin.display(description="memory", ordering="memory")
    def size(self, version: ModelVersion) -> SafeString:
        return megabytes(version.memory)

    @admin.display(description="live workers")
    def live_workers(self, version: Any) -> SafeString:
        """Workers that can answer with it, of the workers that were told to hold it."""
        states = [held.get("state") for held in version.held]
        ready = states.count("ready")
        shown = f"{ready}" if ready == len(states) else f"{ready} of {len(states)}"
        return link(listed(Worker, health="alive", holds=version.label), shown)

    @admin.display(description="activation")
    def progress(self, version: ModelVersion) -> SafeString:
        change = lifecycle.pending(version.model)
        if change is None or change.to_version_id != version.pk:
            return whole(NOTHING)
        return format_html(
            "{} {}. {} wants it since {}: {}",
            badge(change.outcome),
            lifecycle.progress(change),
            change.by,
            moment(change.at),
            link(page(change), change.reason),
        )

    @admin.display(description="options")
    def shown_options(self, version: ModelVersion) -> SafeString:
        return as_json(version.options)

    @admin.display(description="schemas")
    def shown_schemas(self, version: ModelVersion) -> SafeString:
        return as_json(version.schemas)

    @admin.display(description="facts")
    def shown_facts(self, version: ModelVersion) -> SafeString:
        return as_json(version.facts)

    @admin.display(description="registered", ordering="first_seen")
    def registered_on(self, version: ModelVersion) -> SafeString:
        return whole(localize(timezone.localtime(version.first_seen).date()))

    @admin.display(description="registered")
    def registered(self, version: ModelVersion) -> SafeString:
        return format_html("{} by {}", moment(version.first_seen), version.registered_by or NOTHING)

    @admin.display(description="last check")
    def check_steps(self, version: ModelVersion) -> SafeString:
        rows = [
            (
                step["step"],
                badge(step["outcome"]),
                as_written(step.get("detail", "")),
                seconds(step.get("seconds")),
            )
            for step in version.checks
        ]
        return table(("step", "outcome", "what it found", "took"), rows)

    @admin.display(description="live workers")
    def in_workers(self, version: ModelVersion) -> SafeString:
        rows = [
            [link(page(worker), worker.id[:12]), worker.node, *held_row(worker.held[version.label])]
            for worker in Worker.objects.alive().holding(version.label).order_by("id")
        ]
        return table(("worker", "node", *HELD), rows)

    @admin.display(description="latency")
    def latency(self, version: ModelVersion) -> SafeString:
        url = listed(LatencySample, model_version__id__exact=version.pk)
        return link(url, "by minute")

    @admin.display(description="batch")
    def batch_size(self, version: ModelVersion) -> str:
        return decimal(_batches(version).mean_size)

    @admin.display(description="batches by size")
    def batch_sizes(self, version: ModelVersion) -> SafeString:
        return bars(_batches(version).ranges())

    @admin.display(description="padding")
    def padding(self, version: ModelVersion) -> SafeString:
        return percent(_batches(version).padding)


def _batches(version: ModelVersion) -> BatchFigures:
    said = Worker.objects.alive().holding(version.label).values_list("held", flat=True)
    return BatchFigures.sum(held[version.label].get("batches") or {} for held in said)

"""Models: which versions answer, how they do beside each other, and their golden inputs."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from workers.admin.decisions import (
    REGISTER,
    Decides,
)
from workers.admin.golden import GoldenInputs
from workers.admin.look import (
    NOTHING,
    badge,
    link,
    listed,
    megabytes,
    moment,
    page,
    table,
    version_of,
    whole,
)
from workers.admin.model_decisions import DECISIONS
from workers.admin.side_by_side import shadow_answers, side_by_side
from workers.catalog import lifecycle
from workers.models import Change, ModelVersion, ServedModel

NEWEST = 10  # versions on a model's page


@admin.register(ServedModel)
class ServedModelAdmin(Decides):
    heading = "Models"
    list_display = (
        "name",
        "kind_of_model",
        "default",
        "active_version",
        "canary_version",
        "shadow_version",
        "activation",
        "who_decides",
    )
    list_select_related = ("active", "canary", "shadow", "previous")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "kind_of_model",
                    "default",
                    "who_decides",
                    "active_version",
                    "previous_version",
                    "canary_version",
                    "shadow_version",
                    "activation",
                )
            },
        ),
        ("Side by side, last 60 minutes", {"fields": ("sides",), "classes": ("velo-wide",)}),
        ("The shadow's answers", {"fields": ("alike",), "classes": ("velo-wide",)}),
        ("Versions", {"fields": ("newest",), "classes": ("velo-wide",)}),
    )
    readonly_fields = (
        *("kind_of_model", "default", "who_decides", "active_version", "previous_version"),
        *("canary_version", "shadow_version", "activation", "sides", "alike", "newest"),
    )
    inlines = (GoldenInputs,)
    decisions = DECISIONS

    def get_queryset(self, request: HttpRequest) -> QuerySet[ServedModel]:
        return super().get_queryset(request).select_related(*self.list_select_related)

    def enrich(self, rows: Sequence[Any]) -> None:
        going_on = lifecycle.all_pending(rows)
        for model in rows:
            model.going_on = going_on.get(model.pk)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Nothing of it is edited here, only its golden inputs. To write what this page has read
        would undo a decision that was made meanwhile."""

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """What a person expects isn't recorded from a version."""
        for golden in formset.forms:
            if "expected" in golden.changed_data:
                golden.instance.recorded_from = (
                    request.user.get_username() if golden.is_answered() else ""
                )
        super().save_formset(request, form, formset, change)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        name = unquote(object_id)
        tools = [{"name": "Audit trail", "address": listed(Change, model__name__exact=name)}]
        if request.user.has_perm(REGISTER):
            address = f"{reverse('admin:workers_modelversion_add')}?{urlencode({'name': name})}"
            tools.insert(0, {"name": "Register a version", "address": address})
        return super().change_view(
            request, object_id, form_url, {"tools": tools, **(extra_context or {})}
        )

    @admin.display(description="kind", ordering="kind")
    def kind_of_model(self, model: ServedModel) -> str:
        return model.kind

    @admin.display(description="default", ordering="is_default")
    def default(self, model: ServedModel) -> SafeString:
        return (
            badge("active", "/transform asks this model.", "default")
            if model.is_default
            else whole(NOTHING)
        )

    @admin.display(description="active", ordering="active")
    def active_version(self, model: ServedModel) -> SafeString:
        return version_of(model, model.active)

    @admin.display(description="active before")
    def previous_version(self, model: ServedModel) -> SafeString:
        return version_of(model, model.previous)

    @admin.display(description="canary")
    def canary_version(self, model: ServedModel) -> SafeString:
        return _with_share(model, model.canary, model.canary_share)

    @admin.display(description="shadow")
    def shadow_version(self, model: ServedModel) -> SafeString:
        return _with_share(model, model.shadow, model.shadow_share)

    @admin.display(description="activation")
    def activation(self, model: Any) -> SafeString:
        if not hasattr(model, "going_on"):  # on its own page
            self.enrich([model])
        if model.going_on is None:
            return whole(NOTHING)
        change, progress = model.going_on
        return format_html(
            "{} {}<br>{}",
            badge(change.outcome, change.reason),
            version_of(model, change.to_version),
            progress,
        )

    @admin.display(description="decided by", ordering="follows_environment")
    def who_decides(self, model: ServedModel) -> str:
        return "environment" if model.follows_environment else "a person"

    @admin.display(description="side by side")
    def sides(self, model: ServedModel) -> SafeString:
        return side_by_side(model)

    @admin.display(description="the shadow's answers")
    def alike(self, model: ServedModel) -> SafeString:
        return shadow_answers(model.shadow)

    @admin.display(description="versions")
    def newest(self, model: ServedModel) -> SafeString:
        rows = [
            (
                link(page(version), version.version),
                badge(version.state, version.reason),
                version.dimensions or NOTHING,
                megabytes(version.memory),
                moment(version.first_seen),
                version.registered_by or NOTHING,
            )
            for version in model.versions.all()[:NEWEST]
        ]
        heads = ("version", "state", "dimensions", "memory", "registered", "by")
        everything = link(listed(ModelVersion, model__name__exact=model.pk), "All versions")
        return format_html("{}{}", table(heads, rows), everything)


def _with_share(model: ServedModel, version: ModelVersion | None, share: int) -> SafeString:
    shown = version_of(model, version)
    return format_html("{} {}", shown, whole(f"{share} %")) if version else shown

"""The audit trail: each change of what serves, with its user, time, reason and result."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from workers.admin.look import (
    NOTHING,
    Window,
    as_written,
    badge,
    linked,
    moment,
    seconds,
    version_of,
    whole,
)
from workers.models import Change


def took(change: Change) -> float | None:
    """Seconds from the decision to its outcome; None while it is pending."""
    return (change.ended - change.at).total_seconds() if change.ended else None


@admin.register(Change)
class ChangeAdmin(Window):
    heading = "Audit trail"
    list_display = (
        "when",
        "by",
        "action_name",
        "model_link",
        "from_to",
        "why",
        "outcome_badge",
        "duration",
    )
    list_filter = ("model", "action", "outcome")
    date_hierarchy = "at"
    search_fields = ("by", "reason", "detail")
    list_select_related = ("model", "from_version", "to_version")
    fields = (
        "when",
        "by",
        "action_name",
        "model_link",
        "before",
        "after",
        "percent",
        "reason",
        "outcome_badge",
        "duration",
        "what_came_of_it",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Change]:
        return super().get_queryset(request).select_related(*self.list_select_related)

    @admin.display(description="at", ordering="at")
    def when(self, change: Change) -> SafeString:
        return moment(change.at)

    @admin.display(description="action", ordering="action")
    def action_name(self, change: Change) -> str:
        return change.action

    @admin.display(description="model", ordering="model")
    def model_link(self, change: Change) -> SafeString:
        return linked(change.model)

    @admin.display(description="from")
    def before(self, change: Change) -> SafeString:
        return version_of(change.model, change.from_version)

    @admin.display(description="to")
    def after(self, change: Change) -> SafeString:
        return version_of(change.model, change.to_version)

    @admin.display(description="share", ordering="share")
    def percent(self, change: Change) -> SafeString:
        if change.share is None:
            return whole(NOTHING)
        return whole(f"{change.share} %" if change.share else "over")

    @admin.display(description="from → to")
    def from_to(self, change: Change) -> SafeString:
        share = whole("" if change.share is None else self.percent(change))
        before = version_of(change.model, change.from_version)
        after = version_of(change.model, change.to_version)
        return format_html("{}<br>→ {} {}", before, after, share)

    @admin.display(description="reason")
    def why(self, change: Change) -> str:
        return change.reason

    @admin.display(description="outcome", ordering="outcome")
    def outcome_badge(self, change: Change) -> SafeString:
        return badge(change.outcome, change.detail)

    @admin.display(description="took")
    def duration(self, change: Change) -> SafeString:
        return seconds(took(change))

    @admin.display(description="what came of it")
    def what_came_of_it(self, change: Change) -> SafeString:
        return as_written(change.detail)

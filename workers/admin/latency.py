"""How fast each version was, minute by minute."""

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString

from workers.admin.look import Window, linked, milliseconds
from workers.models import LatencySample


class SinceFilter(admin.SimpleListFilter):
    """Instead of a date hierarchy, which asks the whole table for its days."""

    title = "time"
    parameter_name = "since"
    HOURS = {"1": "Last hour", "24": "Last 24 hours", "168": "Last 7 days"}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(self.HOURS.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        hours = self.value()
        if hours not in self.HOURS:
            return queryset
        return queryset.filter(minute__gte=timezone.now() - timedelta(hours=int(hours)))


@admin.register(LatencySample)
class LatencySampleAdmin(Window):
    heading = "Latency by minute"
    list_display = ("minute", "stage", "version", "count", "failed", "mean", "p50", "p95", "p99")
    list_filter = (SinceFilter, "stage", "model_version")
    fields = list_display
    list_select_related = ("model_version",)

    @admin.display(description="model version", ordering="model_version")
    def version(self, sample: LatencySample) -> SafeString:
        return linked(sample.model_version)

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

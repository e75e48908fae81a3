"""How fast each version was, minute by minute."""

from django.contrib import admin
from django.utils.safestring import SafeString

from workers.admin.look import Window, linked, milliseconds
from workers.models import LatencySample


@admin.register(LatencySample)
class LatencySampleAdmin(Window):
    heading = "Latency by minute"
    list_display = ("minute", "stage", "version", "count", "failed", "mean", "p50", "p95", "p99")
    list_filter = ("stage", "model_version")
    date_hierarchy = "minute"
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

"""What the active version, the canary and the shadow of a model did in the last hour, compared."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from workers.admin.look import (
    NOTHING,
    badge,
    bars,
    likeness,
    linked,
    milliseconds,
    moment,
    percent,
    table,
)
from workers.models import LatencySample, ModelVersion, ServedModel, ShadowComparison
from workers.values.comparing import Likeness
from workers.values.histogram import Histogram

MINUTES = 60
QUANTILES = (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))
Stage = LatencySample.Stage


@dataclass
class Measured:
    """One version's share of the last hour."""

    stages: dict[str, Histogram] = field(default_factory=dict)
    failed: int = 0  # requests without an answer

    def stage(self, name: str) -> Histogram:
        return self.stages.setdefault(name, Histogram())

    @property
    def requests(self) -> int:
        return self.stage(Stage.RESPONSE).count + self.failed

    @property
    def error_rate(self) -> float | None:
        return self.failed / self.requests if self.requests else None


def last_hour(model: ServedModel) -> dict[int, Measured]:
    """By version, by primary key. One query."""
    since = timezone.now() - timedelta(minutes=MINUTES)
    found: dict[int, Measured] = {}
    for sample in LatencySample.objects.filter(model_version__model=model, minute__gte=since):
        measured = found.setdefault(sample.model_version_id, Measured())
        measured.stage(sample.stage).merge(sample.histogram)
        measured.failed += sample.failed
    return found


def side_by_side(model: ServedModel) -> SafeString:
    """A column for each version that has a role, a row for each figure."""
    hour = last_hour(model)
    everything = sum(one.requests for one in hour.values())  # a shadow's copies are none
    roles = [("active", model.active, 0), ("canary", model.canary, model.canary_share)]
    columns: list[list[object]] = []
    heads: list[object] = [""]
    for role, version, told in [*roles, ("shadow", model.shadow, model.shadow_share)]:
        if version:
            text = f"{role} {told} %" if told else role
            heads.append(format_html("{}<br>{}", linked(version), badge(role, text=text)))
            measured = hour.get(version.pk, Measured())
            columns.append(_column(measured, everything, is_shadow=role == "shadow"))
    return (
        table(heads, zip(_names(), *columns, strict=True), "velo-sides")
        if columns
        else linked(None)
    )


def _names() -> Sequence[str]:
    times = [f"{stage} {name}" for stage in ("response", "model") for name, _ in QUANTILES]
    return "requests", "share of all", "copies computed", *times, "failed", "error rate"


def _column(measured: Measured, everything: int, is_shadow: bool) -> list[object]:
    """A shadow's requests are the requests that named it; it also computed copies."""
    copies = max(0, measured.stage(Stage.MODEL).count - measured.stage(Stage.RESPONSE).count)
    return [
        f"{measured.requests:,}",
        percent(measured.requests / everything if everything else None),
        f"{copies:,}" if is_shadow else NOTHING,
        *(
            milliseconds(measured.stage(stage).quantile(quantile))
            for stage in (Stage.RESPONSE, Stage.MODEL)
            for _, quantile in QUANTILES
        ),
        f"{measured.failed:,}",
        percent(measured.error_rate),
    ]


def shadow_answers(shadow: ModelVersion | None) -> SafeString:
    """How alike the shadow's answers are to the callers' answers, since it is the shadow."""
    rows = []
    for compared in ShadowComparison.objects.filter(shadow=shadow).select_related("to__model"):
        found = Likeness(compared.likeness)
        rows.append(
            (
                linked(compared.to),
                f"{compared.count:,}",
                f"{compared.failed:,}",
                likeness(found.mean),
                likeness(found.least),
                bars(found.to_json()["counts"]),
                moment(compared.last),
            )
        )
    heads = (
        "beside",
        "compared",
        "no answer",
        "mean likeness",
        "least",
        "how many, by likeness",
        "last",
    )
    return table(heads, rows, "velo-alike")

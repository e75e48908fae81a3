"""How the cockpit shows a state, a figure, a table; and what all its pages have in common."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.admin.views.main import ChangeList
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import localize
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from workers.models import ModelVersion, ServedModel
from workers.values.version_id import VersionId

NOTHING = "–"
SHORT = 16  # characters of a text in a list
COLOURS = {
    # a version's
    "registered": "waiting",
    "checking": "waiting",
    "ready": "good",
    "active": "active",
    "retired": "ended",
    "rejected": "bad",
    # a worker's, and a version's in a worker
    "loading": "waiting",
    "idle": "good",
    "busy": "active",
    "stopped": "ended",
    "failed": "bad",
    "lost": "bad",
    "waiting": "waiting",
    "leaving": "ended",
    # a decision's, and a check's
    "pending": "waiting",
    "done": "good",
    "cancelled": "ended",
    "running": "waiting",
    "passed": "good",
    "skipped": "ended",
    # a job's
    "queued": "waiting",
    "started": "active",
    "finished": "good",
    "successful": "good",
    "canceled": "ended",
    # a version's beside the active one
    "canary": "waiting",
    "shadow": "ended",
}


def badge(state: str, why: str = "", text: str = "") -> SafeString:
    """In the state's colour; `why` shows under the mouse, `text` instead of the state."""
    colour = COLOURS.get(state, "ended")
    return format_html(
        '<span class="velo-badge velo-{}" title="{}">{}</span>', colour, why, text or state
    )


def whole(text: object) -> SafeString:
    """Not to be broken into two lines."""
    return format_html('<span class="velo-nowrap">{}</span>', text)


def short(text: str) -> SafeString:
    """Both ends of a long text: where it begins and where it leads."""
    shown = text if len(text) <= SHORT else f"{text[: SHORT // 2]}…{text[-SHORT // 2 :]}"
    return format_html('<span class="velo-nowrap" title="{}">{}</span>', text, shown or NOTHING)


def ago(silent_for: timedelta) -> SafeString:
    """How long ago, in the one unit that says it: "3 s ago"."""
    seconds = max(0, int(silent_for.total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return whole(f"{seconds // length} {unit} ago")
    return whole(f"{seconds} s ago")


def since(moment: str | None) -> SafeString:
    """How long ago; `moment` as a worker writes it: ISO 8601."""
    return ago(timezone.now() - datetime.fromisoformat(moment)) if moment else whole(NOTHING)


def milliseconds(seconds: float | None) -> SafeString:
    """`seconds` shown in ms; a dash for None."""
    return whole(NOTHING if seconds is None else f"{seconds * 1000:.1f} ms")


def seconds(number: float | None) -> SafeString:
    return whole(NOTHING if number is None else f"{number:.1f} s")


def megabytes(size: int | None) -> SafeString:
    """`size` in bytes shown in MB; a dash for None."""
    return whole(NOTHING if size is None else f"{size / 1e6:,.0f} MB")


def decimal(number: float | None) -> str:
    return NOTHING if number is None else f"{number:.1f}"


def likeness(number: float | None) -> str:
    return NOTHING if number is None else f"{number:.5f}"


def percent(share: float | None) -> SafeString:
    """`share` from 0 to 1; a dash for None."""
    return whole(NOTHING if share is None else f"{share:.1%}")


def link(url: str, text: object) -> SafeString:
    return format_html('<a href="{}">{}</a>', url, text)


def page(row: Model) -> str:
    """The address of a row's page."""
    address = f"admin:{row._meta.app_label}_{row._meta.model_name}_change"
    return reverse(address, args=[quote(row.pk)])


def labelled(label: str) -> SafeString:
    """A link to the page of a version of which only the label is known."""
    return link(reverse("admin:workers_modelversion_change", args=[quote(label)]), label)


def listed(model: type[Model], **filters: str | int) -> str:
    """The address of a table's list, filtered."""
    address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return f"{address}?{urlencode(filters)}" if filters else address


def linked(row: Model | None) -> SafeString:
    return whole(NOTHING if row is None else link(page(row), row))


def version_of(model: ServedModel, version: ModelVersion | None) -> SafeString:
    """Beside its model: without the model's name, which stands there already."""
    if version is None:
        return whole(NOTHING)
    if version.model_id == model.pk:
        return whole(link(page(version), version.version))
    return link(page(version), in_two(version.label))


def in_two(label: str) -> SafeString:
    """ "name@version", in one line or in two."""
    one = VersionId.parse(label)
    return format_html("{}<wbr>{}", whole(f"{one.model}@"), whole(one.version))


def bars(counts: Mapping[str, int]) -> SafeString:
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


def table(heads: Sequence[object], rows: Iterable[Sequence[object]], name: str = "") -> SafeString:
    """As the admin's lists look. `name`: a CSS class of its own."""
    head = format_html_join("", '<th scope="col">{}</th>', ((one,) for one in heads))
    body = format_html_join(
        "",
        "<tr>{}</tr>",
        ((format_html_join("", "<td>{}</td>", ((cell,) for cell in row)),) for row in rows),
    )
    if not body:
        return whole(NOTHING)
    return format_html(
        '<table class="velo-table {}"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>',
        name,
        head,
        body,
    )


def as_written(text: str) -> SafeString:
    """With its own lines, as a traceback has them."""
    return format_html('<pre class="velo-text">{}</pre>', text) if text else whole(NOTHING)


def as_json(value: object) -> SafeString:
    return as_written(json.dumps(value, ensure_ascii=False, indent=2) if value else "")


def moment(at: datetime | None) -> SafeString:
    return whole(localize(timezone.localtime(at)) if at else NOTHING)


class Rows(ChangeList):
    """A page of a list, whose rows are told together what each of them shows of other tables."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        assert isinstance(self.model_admin, Page)
        self.model_admin.enrich(self.result_list)


class Page(admin.ModelAdmin):
    """A list with a heading of its own, of what nobody adds or deletes here."""

    heading: str
    show_full_result_count = False  # a second count over the whole table, for a filtered list

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return Rows

    def enrich(self, rows: Sequence[Any]) -> None:
        """Read what the list shows of other tables, in as many queries for one row as for 100."""

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().changelist_view(request, {"title": self.heading, **(extra_context or {})})

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class Window(Page):
    """Read-only: a person has no business writing what processes report."""

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

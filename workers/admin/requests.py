"""Records of requests: found by id, client, status or time; each with its attempts."""

from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.safestring import SafeString

from workers.admin.addresses import job_page
from workers.admin.look import (
    NOTHING,
    Rows,
    Window,
    as_written,
    badge,
    labelled,
    link,
    milliseconds,
    moment,
    page,
    short,
    table,
    whole,
)
from workers.models import Client, RequestRecord, ServedModel, Worker

READ = "workers.read_request_input"
HIDDEN = "Only people with the permission “Can read the inputs of requests” see it."
ERRORS = 400  # and above
RECENT = 1_000  # rows whose codes are offered as a filter
COUNTED = 10_000  # rows, at most, for the number of pages
# Errors whose sentence may repeat a part of the input.
OF_INPUT = ("not_a_string", "invalid_input", "blank_input", "invalid_json", "unknown_model")


class Choice(admin.SimpleListFilter):
    """A filter whose choices are known without reading the whole table."""

    field: str

    def queryset(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows if self.value() is None else rows.filter(**{self.field: self.value()})


class BySince(Choice):
    title, parameter_name = "time", "since"
    hours = {"1": "The last hour", "24": "The last day", "168": "The last week"}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(self.hours.items())

    def queryset(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() not in self.hours:
            return rows
        return rows.filter(at__gte=timezone.now() - timedelta(hours=int(self.value() or 0)))


class ByStatus(Choice):
    title = parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("2", "2xx"), ("4", "4xx"), ("5", "5xx")]

    def queryset(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() not in ("2", "4", "5"):
            return rows
        first = int(self.value() or 0) * 100
        return rows.filter(status__gte=first, status__lt=first + 100)


class ByCode(Choice):
    title = parameter_name = field = "code"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Of the latest rows."""
        latest = RequestRecord.objects.order_by("-at").values_list("code", flat=True)[:RECENT]
        return [(code, code) for code in sorted(set(latest)) if code]


class ByClient(Choice):
    title = parameter_name = field = "client"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in Client.objects.values_list("name", flat=True)]


class ByModel(Choice):
    title = parameter_name = field = "model"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in ServedModel.objects.values_list("name", flat=True)]


class ByEndpoint(Choice):
    title = parameter_name = field = "endpoint"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in ("velo", "openai", "rerank", "tei", "oip")]


class Latest(Paginator):
    """Counts no further than COUNTED: a table of millions has pages enough."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return len(rows.order_by()[:COUNTED].values_list("pk", flat=True))


@admin.register(RequestRecord)
class RequestRecordAdmin(Window):
    heading = "Requests: errors, and a share of the answers"
    paginator = Latest
    list_display = (*("when", "id_short", "who", "served_by", "state", "why", "took"),)
    list_filter = (BySince, ByStatus, ByCode, ByClient, ByModel, ByEndpoint)
    search_fields = ("request_id__exact", "job__exact", "digest__exact")
    search_help_text = "The whole X-Request-Id, the id of a job, or the SHA-256 of a body."
    fields = (
        *("request_id", "when", "counted", "who", "endpoint", "served_by", "its_worker", "state"),
        *("why", "said", "inputs_of", "tokens_read", "size_of", "queue", "model_time", "took"),
        *("its_job", "its_attempts", "digest", "content"),
    )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return Rows

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Two of them show more to people who may read inputs."""
        shown = {} if request.user.has_perm(READ) else {"said": "said_hidden", "content": "hidden"}
        return tuple(shown.get(name, name) for name in self.fields)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return self.get_fields(request, obj)

    def get_queryset(self, request: HttpRequest) -> QuerySet[RequestRecord]:
        return super().get_queryset(request).defer("body", "attempts", "detail")

    @admin.display(description="at", ordering="at")
    def when(self, row: RequestRecord) -> SafeString:
        return moment(row.at)

    @admin.display(description="id")
    def id_short(self, row: RequestRecord) -> SafeString:
        return link(page(row), short(row.request_id))

    @admin.display(description="client", ordering="client")
    def who(self, row: RequestRecord) -> str:
        return row.client or NOTHING

    @admin.display(description="version")
    def served_by(self, row: RequestRecord) -> SafeString:
        return labelled(f"{row.model}@{row.version}") if row.version else whole(NOTHING)

    @admin.display(description="status", ordering="status")
    def state(self, row: RequestRecord) -> SafeString:
        return badge("finished" if row.status < ERRORS else "failed", text=str(row.status))

    @admin.display(description="code", ordering="code")
    def why(self, row: RequestRecord) -> SafeString:
        many = f" × {row.count:,}" if row.count > 1 else ""
        return whole(f"{row.code or NOTHING}{many}")

    @admin.display(description="counted")
    def counted(self, row: RequestRecord) -> str:
        if row.count == 1:
            return "one request"
        return f"{row.count:,} refusals within seconds; the id is that of the first"

    @admin.display(description="its caller was told")
    def said(self, row: RequestRecord) -> SafeString:
        return as_written(row.detail)

    @admin.display(description="its caller was told")
    def said_hidden(self, row: RequestRecord) -> SafeString:
        return whole(HIDDEN) if row.code in OF_INPUT else as_written(row.detail)

    @admin.display(description="inputs", ordering="inputs")
    def inputs_of(self, row: RequestRecord) -> SafeString:
        return whole(f"{row.inputs:,}")

    @admin.display(description="tokens")
    def tokens_read(self, row: RequestRecord) -> SafeString:
        return whole(f"{row.tokens:,}")

    @admin.display(description="bytes")
    def size_of(self, row: RequestRecord) -> SafeString:
        return whole(f"{row.size:,}")

    @admin.display(description="in the queue")
    def queue(self, row: RequestRecord) -> SafeString:
        return milliseconds(row.queue_seconds)

    @admin.display(description="in the model")
    def model_time(self, row: RequestRecord) -> SafeString:
        return milliseconds(row.model_seconds)

    @admin.display(description="in all", ordering="total_seconds")
    def took(self, row: RequestRecord) -> SafeString:
        return milliseconds(row.total_seconds)

    @admin.display(description="worker")
    def its_worker(self, row: RequestRecord) -> SafeString:
        found = Worker.objects.filter(pk=row.worker).first() if row.worker else None
        return whole(link(page(found), row.worker) if found else row.worker or NOTHING)

    @admin.display(description="job")
    def its_job(self, row: RequestRecord) -> SafeString:
        if not row.job:
            return whole(NOTHING)
        return link(job_page(f"{row.model}@{row.version}", row.job), row.job)

    @admin.display(description="attempts")
    def its_attempts(self, row: RequestRecord) -> SafeString:
        rows = [
            (
                moment(datetime.fromisoformat(one["at"]) if one.get("at") else None),
                one.get("outcome"),
                one.get("worker") or NOTHING,
            )
            for one in row.attempts
        ]
        return table(("ended", "outcome", "worker"), rows)

    @admin.display(description="input")
    def content(self, row: RequestRecord) -> SafeString:
        return as_written(row.body)

    @admin.display(description="input")
    def hidden(self, row: RequestRecord) -> SafeString:
        return whole(HIDDEN)

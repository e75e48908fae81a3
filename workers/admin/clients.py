"""Clients, their API keys and what they have used."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, Max, Q, QuerySet, Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.cache import never_cache
from redis.exceptions import RedisError

from workers.admin.decisions import Confirm, Decides, Decision
from workers.admin.look import (
    NOTHING,
    Page,
    Window,
    badge,
    link,
    linked,
    listed,
    moment,
    page,
    table,
    whole,
)
from workers.catalog import clients
from workers.catalog.clients import NewKey
from workers.metrics import usage
from workers.models import Client, Key, Usage

SHOWN_DAYS = 30  # of usage, on a client's page
LATER = (
    "Redis can't be reached, so web processes don't know it yet. They will within a second of its "
    "return."
)


def publish(model_admin: admin.ModelAdmin, request: HttpRequest) -> None:
    """What is saved is published at once; while Redis is away, the elected worker does it later."""
    try:
        clients.publish()
    except RedisError:
        model_admin.message_user(request, LATER, "WARNING")


class Expiry(Confirm):
    """When a new key ends."""

    days = forms.IntegerField(
        label="Valid for",
        min_value=1,
        max_value=3650,
        required=False,
        widget=forms.NumberInput(attrs={"class": "vIntegerField"}),
        help_text="Days. Empty: until it is revoked.",
    )


@admin.register(Client)
class ClientAdmin(Page):
    heading = "Clients"
    list_display = ("name", "state", "asks", "limits", "priority", "valid_keys", "last_used")
    search_fields = ("name", "note")
    filter_horizontal = ("models_allowed",)
    fieldsets = (
        (None, {"fields": ("name", "note", "is_enabled")}),
        ("May ask", {"fields": ("asks_all_models", "models_allowed")}),
        (
            "Limits, for all its keys together",
            {"fields": ("inputs_per_minute", "tokens_per_day", "inputs_at_once", "is_background")},
        ),
        ("Keys", {"fields": ("its_keys",), "classes": ("velo-wide",)}),
        (f"Used in the last {SHOWN_DAYS} days", {"fields": ("used",), "classes": ("velo-wide",)}),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Usage and limits are counted by its name."""
        return ("its_keys", "used", "name") if obj else ("its_keys", "used")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fieldsets if obj else self.fieldsets[:3]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("workers.add_client")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Client]:
        valid = Q(keys__in=Key.objects.valid())
        return (
            super()
            .get_queryset(request)
            .prefetch_related("models_allowed")
            .annotate(
                count_valid=Count("keys", filter=valid, distinct=True), used=Max("keys__last_used")
            )
        )

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        transaction.on_commit(lambda: publish(self, request))

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(never_cache(self.make_key))
        name = "workers_client_make_key"
        return [path("<path:object_id>/make-key/", view, name=name), *super().get_urls()]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        tools = []
        if request.user.has_perm("workers.add_key"):
            address = reverse("admin:workers_client_make_key", args=[quote(unquote(object_id))])
            tools.append({"name": "Make a key", "address": address})
        return super().change_view(
            request, object_id, form_url, {"tools": tools, **(extra_context or {})}
        )

    def make_key(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """GET asks. POST makes a key and shows it: it stands in this answer and nowhere else."""
        client = self.get_object(request, unquote(object_id))
        if client is None:
            raise Http404
        if not request.user.has_perm("workers.add_key"):
            raise PermissionDenied
        form = Expiry(client, request.POST if request.method == "POST" else None)
        made: NewKey | None = None
        if form.is_valid():
            days = form.cleaned_data["days"]
            expires = timezone.now() + timedelta(days=days) if days else None
            made = clients.make_key(client, request.user.get_username(), expires)
            publish(self, request)
            self.log_change(request, client, f"Made the key {made.row}")
        context = {
            **self.admin_site.each_context(request),
            "title": f"Make a key: {client}",
            "question": f"{client} gets one more key. Its other keys stay valid.",
            "button": "Make a key",
            "form": form,
            "made": made,
            "opts": self.opts,
            "original": client,
            "back": page(client),
        }
        return TemplateResponse(request, "admin/workers/make_key.html", context)

    @admin.display(description="state", ordering="is_enabled")
    def state(self, client: Client) -> SafeString:
        if client.is_enabled:
            return badge("ready", text="enabled")
        return badge("stopped", text="disabled")

    @admin.display(description="may ask")
    def asks(self, client: Client) -> str:
        if client.asks_all_models:
            return "all models"
        return ", ".join(model.name for model in client.models_allowed.all()) or "no model"

    @admin.display(description="limits")
    def limits(self, client: Client) -> SafeString:
        found = [
            f"{limit:,} {what}"
            for limit, what in (
                (client.inputs_per_minute, "inputs/min"),
                (client.tokens_per_day, "tokens/day"),
                (client.inputs_at_once, "at once"),
            )
            if limit
        ]
        return whole(" · ".join(found) or NOTHING)

    @admin.display(description="priority", ordering="is_background")
    def priority(self, client: Client) -> str:
        return "background" if client.is_background else "interactive"

    @admin.display(description="valid keys", ordering="count_valid")
    def valid_keys(self, client: Any) -> SafeString:
        return link(listed(Key, client__id__exact=client.pk), client.count_valid)

    @admin.display(description="last used", ordering="used")
    def last_used(self, client: Any) -> SafeString:
        return moment(client.used)

    @admin.display(description="keys")
    def its_keys(self, client: Client) -> SafeString:
        rows = [
            (linked(key), _badge(key), moment(key.created), moment(key.last_used))
            for key in client.keys.all()
        ]
        return table(("key", "state", "created", "last used"), rows)

    @admin.display(description="used")
    def used(self, client: Client) -> SafeString:
        since = timezone.now().date() - timedelta(days=SHOWN_DAYS)
        rows = (
            Usage.objects.filter(client=client.name, day__gte=since)
            .values("model")
            .order_by("model")
            .annotate(all_inputs=Sum("inputs"), all_tokens=Sum("tokens"))
        )
        shown = [(row["model"], f"{row['all_inputs']:,}", f"{row['all_tokens']:,}") for row in rows]
        by_day = link(listed(Usage, client__exact=client.name), "By day")
        return format_html("{}{}", table(("model", "inputs", "tokens"), shown), by_day)


def _badge(key: Key) -> SafeString:
    colour = {"valid": "ready", "expired": "retired", "revoked": "rejected"}[key.state]
    return badge(colour, text=key.state)


def _revoke(key: Key, by: str) -> str:
    try:
        clients.revoke([key], by)
    except RedisError:
        return f"{key} is revoked. {LATER}"
    return f"{key} is revoked. Web processes refuse it within a second."


@admin.register(Key)
class KeyAdmin(Decides, Window):
    heading = "API keys"
    list_display = ("prefix", "its_client", "state", "made", "made_by", "used", "ends", "ended")
    list_filter = ("client",)
    search_fields = ("prefix", "client__name")
    list_select_related = ("client",)
    fields = ("prefix", "its_client", "state", "made", "made_by", "used", "ends", "ended")
    decisions = (
        Decision(
            "revoke",
            "Revoke",
            lambda key: key.revoked is None,
            lambda key: f"Requests with {key} will get 401 from now on. This can't be undone.",
            _revoke,
            form=Confirm,
            permission="workers.change_key",
        ),
    )

    @admin.display(description="client", ordering="client")
    def its_client(self, key: Key) -> SafeString:
        return linked(key.client)

    @admin.display(description="state")
    def state(self, key: Key) -> SafeString:
        return _badge(key)

    @admin.display(description="created", ordering="created")
    def made(self, key: Key) -> SafeString:
        return moment(key.created)

    @admin.display(description="by", ordering="created_by")
    def made_by(self, key: Key) -> str:
        return key.created_by

    @admin.display(description="last used", ordering="last_used")
    def used(self, key: Key) -> SafeString:
        return moment(key.last_used)

    @admin.display(description="expires", ordering="expires")
    def ends(self, key: Key) -> SafeString:
        return moment(key.expires)

    @admin.display(description="revoked", ordering="revoked")
    def ended(self, key: Key) -> SafeString:
        return format_html("{} {}", moment(key.revoked), key.revoked_by)


@admin.register(Usage)
class UsageAdmin(Window):
    heading = "Usage by day (UTC)"
    list_display = ("day", "who", "model", "inputs_used", "tokens_used")
    list_filter = ("client", "model")
    date_hierarchy = "day"
    fields = ("day", "who", "model", "inputs_used", "tokens_used")
    actions = ("as_csv",)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.action(description="Download the chosen rows as CSV", permissions=["view"])
    def as_csv(self, request: HttpRequest, rows: QuerySet[Usage]) -> HttpResponse:
        disposition = 'attachment; filename="usage.csv"'
        headers = {"Content-Disposition": disposition}
        return HttpResponse(usage.as_csv(rows), content_type="text/csv", headers=headers)

    @admin.display(description="client", ordering="client")
    def who(self, row: Usage) -> str:
        return row.client or "without a key"

    @admin.display(description="inputs", ordering="inputs")
    def inputs_used(self, row: Usage) -> SafeString:
        return whole(f"{row.inputs:,}")

    @admin.display(description="tokens", ordering="tokens")
    def tokens_used(self, row: Usage) -> SafeString:
        return whole(f"{row.tokens:,}")

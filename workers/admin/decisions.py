"""Buttons that decide something: each leads to a page that says what will happen and asks why.

Only a POST decides. What may be decided, and what comes of it, is workers.lifecycle's business;
what it refuses is shown as a message.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from workers.admin.look import Page, page
from workers.catalog.lifecycle import SERVABLE, Refused
from workers.models import ModelVersion, ServedModel

ACTIVATE = "workers.activate_modelversion"
REGISTER = "workers.add_modelversion"
REFRESH = 2  # seconds, while something goes on


class Confirm(forms.Form):
    """Nothing to fill in."""

    def __init__(self, row: Any, data: Any = None) -> None:
        super().__init__(data)
        self.row = row


class Reason(Confirm):
    """Why somebody decides; the audit trail keeps it."""

    reason = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 3, "cols": 80, "class": "vLargeTextField"}),
        help_text="The audit trail keeps it, with your name.",
    )


def share(most: int) -> forms.IntegerField:
    return forms.IntegerField(
        label="Share",
        min_value=1,
        max_value=most,
        widget=forms.NumberInput(attrs={"class": "vIntegerField"}),
        help_text=f"Per cent of the requests, 1 to {most}.",
    )


class Canary(Reason):
    """A version's share of the requests as canary, in per cent."""

    percent = share(99)
    field_order = ("version", "percent", "reason")


class Shadow(Reason):
    """A version's share of the requests as shadow, in per cent."""

    percent = share(100)
    field_order = ("version", "percent", "reason")


class OfModel(Confirm):
    """Chooses a version of the model among the versions that can serve and aren't active."""

    version = forms.ModelChoiceField(
        ModelVersion.objects.none(),
        help_text="Versions that have passed their check, except the active version.",
    )

    def __init__(self, row: ServedModel, data: Any = None) -> None:
        super().__init__(row, data)
        field = self.fields["version"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = row.versions.filter(state__in=SERVABLE).select_related("model")


class CanaryOfModel(OfModel, Canary):
    pass


class ShadowOfModel(OfModel, Shadow):
    pass


@dataclass(frozen=True)
class Decision:
    """One button of a row's page."""

    name: str  # in the address
    button: str
    offered: Callable[[Any], bool]  # for this row
    question: Callable[[Any], str]  # what will happen
    carry_out: Callable[..., str]  # row, by=, and the form's fields; returns what to say
    form: type[Confirm] = Reason
    permission: str = ACTIVATE
    at_once: bool = False  # the button itself posts: there is nothing to ask


class Decides(Page):
    """A page with such buttons."""

    decisions: tuple[Decision, ...]

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.decide)
        name = f"{self.opts.app_label}_{self.opts.model_name}_decide"
        return [path("<path:object_id>/decide/<slug:name>/", view, name=name), *super().get_urls()]

    def refreshes(self, row: Any) -> bool:
        """Does the row's page change by itself?"""
        return False

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        row = self.get_object(request, unquote(object_id))
        context = {
            "decisions": self._offered(request, row) if row else [],
            "refresh": REFRESH if row and self.refreshes(row) else None,
        }
        return super().change_view(
            request, object_id, form_url, {**context, **(extra_context or {})}
        )

    def _offered(self, request: HttpRequest, row: Any) -> list[dict[str, object]]:
        address = f"admin:{self.opts.app_label}_{self.opts.model_name}_decide"
        return [
            {
                "address": reverse(address, args=[quote(row.pk), decision.name]),
                "button": decision.button,
                "at_once": decision.at_once,
            }
            for decision in self.decisions
            if request.user.has_perm(decision.permission) and decision.offered(row)
        ]

    def decide(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        """GET asks, POST decides."""
        decision = next((one for one in self.decisions if one.name == name), None)
        row = self.get_object(request, unquote(object_id))
        if decision is None or row is None:
            raise Http404
        if not (
            self.has_view_permission(request, row) and request.user.has_perm(decision.permission)
        ):
            raise PermissionDenied
        form = decision.form(row, request.POST if request.method == "POST" else None)
        if form.is_valid():
            by = request.user.get_username()
            try:
                messages.success(request, decision.carry_out(row, by=by, **form.cleaned_data))
                return HttpResponseRedirect(page(row))
            except Refused as refused:
                messages.error(request, str(refused))
                if decision.at_once:
                    return HttpResponseRedirect(page(row))
        context = {
            **self.admin_site.each_context(request),
            "title": f"{decision.button}: {row}",
            "question": decision.question(row),
            "button": decision.button,
            "form": form,
            "opts": self.opts,
            "original": row,
            "back": page(row),
        }
        return TemplateResponse(request, "admin/workers/decide.html", context)

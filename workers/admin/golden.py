"""Golden inputs, on their model's page."""

from typing import Any

from django import forms
from django.contrib import admin

from workers.models import GoldenInput
from workers.models.versions import JSON_NULL


class JSONText(forms.JSONField):
    default_error_messages = {
        "invalid": 'This isn\'t JSON. Write a text in quotation marks: "like this".',
    }
    widget = forms.Textarea(attrs={"rows": 3, "class": "velo-json"})

    def prepare_value(self, value: Any) -> Any:
        return "" if value is None else super().prepare_value(value)


class Expected(JSONText):
    """Empty: no answer yet. JSON's null is an answer, and JSON_NULL here."""

    def prepare_value(self, value: Any) -> Any:
        return "null" if value is JSON_NULL else super().prepare_value(value)

    def bound_data(self, data: Any, initial: Any) -> Any:
        return JSON_NULL if _is_null(data) else super().bound_data(data, initial)

    def has_changed(self, initial: Any, data: Any) -> bool:
        if initial is JSON_NULL or _is_null(data):
            return (initial is JSON_NULL) != _is_null(data)
        return super().has_changed(initial, data)


def _is_null(data: Any) -> bool:
    return isinstance(data, str) and data.strip() == "null"


class GoldenForm(forms.ModelForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        golden = self.instance
        if golden.pk and golden.expected is None and not golden.is_unanswered():
            self.initial["expected"] = JSON_NULL

    def _expects_null(self) -> bool:
        return _is_null(self.data.get(self.add_prefix("expected")))

    def is_answered(self) -> bool:
        """Whether an expected answer was given."""
        return self._expects_null() or self.cleaned_data["expected"] is not None

    def save(self, commit: bool = True) -> Any:
        """Once Django has checked it: it takes JSON_NULL for a value that isn't JSON."""
        if self._expects_null():
            self.instance.expected = JSON_NULL
        return super().save(commit)

    class Meta:
        model = GoldenInput
        fields = ("input", "expected", "tolerance")
        field_classes = {"input": JSONText, "expected": Expected}


class GoldenInputs(admin.TabularInline):
    model = GoldenInput
    form = GoldenForm
    fields = ("input", "expected", "tolerance", "recorded_from")
    readonly_fields = ("recorded_from",)
    extra = 0

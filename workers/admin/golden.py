"""Golden inputs, on their model's page."""

from typing import Any

from django import forms
from django.contrib import admin

from workers.models import GoldenInput


class JSONText(forms.JSONField):
    default_error_messages = {
        "invalid": 'This isn\'t JSON. Write a text in quotation marks: "like this".',
    }
    widget = forms.Textarea(attrs={"rows": 3, "class": "velo-json"})

    def prepare_value(self, value: Any) -> Any:
        return "" if value is None else super().prepare_value(value)


class GoldenForm(forms.ModelForm):
    class Meta:
        model = GoldenInput
        fields = ("input", "expected", "tolerance")
        field_classes = {"input": JSONText, "expected": JSONText}


class GoldenInputs(admin.TabularInline):
    model = GoldenInput
    form = GoldenForm
    fields = ("input", "expected", "tolerance", "recorded_from")
    readonly_fields = ("recorded_from",)
    extra = 0

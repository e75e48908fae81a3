"""The form that registers a version."""

from typing import Any

from django import forms
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from workers.catalog import lifecycle
from workers.models import ModelVersion, ServedModel
from workers.models.versions import PLAIN, Kind


class Suggesting(forms.TextInput):
    """A line of text for which the browser suggests the names of the models that are there."""

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        line = super().render(name, value, {**(attrs or {}), "list": "velo-names"}, renderer)
        names = ServedModel.objects.values_list("name")
        options = format_html_join("", '<option value="{}"></option>', names)
        return format_html('{}<datalist id="velo-names">{}</datalist>', line, options)


class Registration(forms.Form):
    name = forms.CharField(
        label="Model",
        max_length=200,
        validators=[PLAIN],
        widget=Suggesting(attrs={"class": "vTextField"}),
        help_text="An existing model, or the name of a new model.",
    )
    version = forms.CharField(
        max_length=64,
        required=False,
        validators=[PLAIN],
        widget=forms.TextInput(attrs={"class": "vTextField"}),
        help_text="Empty: made from the content of its files.",
    )
    source = forms.CharField(
        max_length=1000,
        required=False,
        widget=forms.TextInput(attrs={"class": "vLargeTextField"}),
        help_text=ModelVersion._meta.get_field("source").help_text,
    )
    kind = forms.ChoiceField(
        choices=Kind.choices, help_text="The same for all versions of a model."
    )
    options = forms.JSONField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 4, "class": "vLargeTextField velo-json"}),
        help_text='As its kind knows them, in JSON: {"name": value}.',
    )

    def __init__(self, data: Any, suggested: Any) -> None:
        """`suggested`: what the address says, for a link that knows the model."""
        found = ServedModel.objects.filter(name=suggested.get("name", "")).first()
        super().__init__(data, initial={"name": found.name, "kind": found.kind} if found else None)

    def clean_options(self) -> dict[str, Any]:
        options = self.cleaned_data["options"] or {}
        if not isinstance(options, dict):
            raise forms.ValidationError('Options have names: write {"name": value}.')
        return options

    def register(self, *, by: str) -> ModelVersion | None:
        """None if it was refused; the form says why."""
        try:
            return lifecycle.register(**self.cleaned_data, by=by)
        except lifecycle.Refused as refused:
            self.add_error(None, str(refused))
            return None

"""Django's name card of the front desk."""

from django.apps import AppConfig


class InferenceConfig(AppConfig):
    name = "inference"

"""The name under which the admin shows the engine room."""

from importlib import import_module

from django.apps import AppConfig

from workers.broker import wire


class WorkersConfig(AppConfig):
    name = "workers"
    verbose_name = "Engine room"

    def ready(self) -> None:
        import_module("workers.checks")
        wire.insist()

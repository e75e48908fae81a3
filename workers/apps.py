"""The names under which the admin shows the engine room and RQ's own pages."""

from importlib import import_module

from django.apps import AppConfig
from django_rq.apps import DjangoRqAdminConfig

from workers.broker import wire


class WorkersConfig(AppConfig):
    name = "workers"
    verbose_name = "Engine room"

    def ready(self) -> None:
        import_module("workers.checks")
        wire.insist()


class QueuesConfig(DjangoRqAdminConfig):
    verbose_name = "Queues and jobs"

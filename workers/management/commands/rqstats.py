"""`manage.py rqstats`: django-rq's, with the queues of model versions among them."""

from typing import Any

from django.conf import settings
from django_rq.management.commands import rqstats

from workers.broker.connection import names
from workers.broker.names import is_version


class Command(rqstats.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        """django-rq lists the queues of the settings; versions come and go."""
        for name in filter(is_version, names()):
            settings.RQ_QUEUES[name] = settings.RQ_QUEUES[name]
        super().handle(*args, **options)

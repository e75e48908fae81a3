"""`manage.py web`: the web server, with Velo's settings."""

import math
import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Run the web server on HOST and PORT."
    requires_system_checks = []  # the server's own processes do them

    def handle(self, *args: Any, **options: Any) -> None:
        os.environ["PYTHONPATH"] = str(settings.BASE_DIR)
        arguments = {
            "interface": "wsgi",
            "host": settings.HOST,
            "port": settings.PORT,
            "workers": settings.VELO_WEB_PROCESSES,
            "blocking-threads": settings.VELO_WEB_THREADS,
            "workers-kill-timeout": math.ceil(settings.VELO_REQUEST_TIMEOUT),  # to finish the last
            "static-path-route": settings.STATIC_URL.rstrip("/"),
            "static-path-mount": settings.STATIC_ROOT,
            "log-level": "error",  # below that it warns of the number of threads; they wait, mostly
        }
        flags = [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
        flags += ["--respawn-failed-workers", "--no-ws", "velo_site.wsgi:application"]
        os.execv(sys.executable, [sys.executable, "-m", "granian", *flags])

"""`manage.py web`: the web server, with Velo's settings."""

import math
import os
import resource
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from inference import ending

CONNECTIONS = 8192  # open at a time in one process; further connections wait to be accepted
OTHER_FILES = 512  # beside the connections
BUFFER = 16 * 1024  # bytes that the server holds of a request's headers, or of an answer


class Command(BaseCommand):
    help = "Run the web server on HOST and PORT."
    requires_system_checks = []  # the server's own processes do them

    def handle(self, *args: Any, **options: Any) -> None:
        os.environ["PYTHONPATH"] = str(settings.BASE_DIR)
        os.environ[ending.SERVER] = str(os.getpid())  # which is the server's, once it runs
        arguments = {
            "interface": "rsgi",
            "loop": "uvloop",  # each request takes it less processor time than asyncio's own loop
            # Not 2: for as long as a client might speak either, the time limit for headers rests.
            "http": 1,
            "host": settings.HOST,
            "port": settings.PORT,
            "backlog": CONNECTIONS,  # not yet accepted; the kernel's own limit is often lower
            "backpressure": _connections(),
            "http1-buffer-size": BUFFER,  # a head larger than this is 431
            "http1-header-read-timeout": min(math.ceil(settings.VELO_READ_TIMEOUT * 1000), 60_000),
            "workers": settings.VELO_WEB_PROCESSES,
            "workers-kill-timeout": math.ceil(settings.VELO_REQUEST_TIMEOUT),  # to finish the last
            "static-path-route": settings.STATIC_URL.rstrip("/"),
            "static-path-mount": settings.STATIC_ROOT,
            "log-level": "error",
        }
        flags = [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
        flags += ["--respawn-failed-workers", "--no-ws", "velo_site.rsgi:application"]
        os.execv(sys.executable, [sys.executable, "-m", "granian", *flags])


def _connections() -> int:
    """How many may be open: with more of them than files, the server would spin."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return (
        CONNECTIONS
        if soft == resource.RLIM_INFINITY
        else max(1, min(CONNECTIONS, soft - OTHER_FILES))
    )

"""How long an answer may take to leave: a socket option that the web server has no word for."""

import asyncio
import logging
import math
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

log = logging.getLogger(__name__)

AGAIN = 0.05  # seconds between two looks for the socket
TRIES = 200


def limit_writes(loop: asyncio.AbstractEventLoop, tries: int = TRIES) -> None:
    """End connections whose client takes nothing of its answer for VELO_WRITE_TIMEOUT.

    Connections have the options of the socket that listens. The web server opens it after the
    application is there, so it is looked for until it is found.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is None:
        log.warning("Answers have no time limit on this system: it has no TCP_USER_TIMEOUT.")
        return
    found = False
    for listening in _listening():
        with listening:
            listening.setsockopt(
                socket.IPPROTO_TCP, option, math.ceil(settings.VELO_WRITE_TIMEOUT * 1000)
            )
        found = True
    if found:
        return
    if tries:
        loop.call_later(AGAIN, limit_writes, loop, tries - 1)
    else:
        log.error(
            "Answers have no time limit: this process has no socket that listens on port %s. Start "
            "the web server with `manage.py web`.",
            settings.PORT,
        )


def _listening() -> Iterator[socket.socket]:
    """Duplicates of the sockets of this process that accept connections on PORT."""
    for name in Path("/proc/self/fd").iterdir():
        try:
            duplicate = socket.socket(fileno=os.dup(int(name.name)))
        except OSError:  # not a socket
            continue
        if (
            duplicate.family in (socket.AF_INET, socket.AF_INET6)
            and duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            and duplicate.getsockname()[1] == settings.PORT
        ):
            yield duplicate
        else:
            duplicate.close()

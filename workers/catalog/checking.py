"""Checks as a worker runs them: one at a time on a machine, each in a process of its own.

That process may crash, hang or fill its memory without harm to requests.
"""

import logging
import os
import signal
import subprocess  # nosec B404 # our own manage.py
import sys
import threading
import time
from contextlib import suppress

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections
from django.utils import timezone
from redis.exceptions import RedisError

from workers.broker.connection import is_suspended
from workers.catalog import lifecycle, plan
from workers.host import turns
from workers.models import ModelVersion

log = logging.getLogger(__name__)

BEAT = 2.0  # seconds between two signs of life
TOLD = 2000  # characters of what a process said before it died
LOCK = "checks.lock"  # in VELO_VAR: the process that holds it checks

_working = threading.Lock()  # held by this process's thread that checks


def start(pk: int) -> None:
    """The job: a check waits. Begin it now if none goes on here; otherwise it gets its turn."""
    take_up()


def take_up() -> None:
    """If checks wait, run them, one after another, in a thread of this process. Does nothing while
    RQ is suspended, or a process that shares VELO_VAR runs checks: that one takes all that wait.

    Workers call this again and again while the plan has a check, so that checks go on when the
    worker that ran them dies.
    """
    if not _working.locked():
        threading.Thread(target=_work_off, name="checks", daemon=True).start()


def _work_off() -> None:
    if not _working.acquire(blocking=False):
        return
    try:
        with turns.taken(settings.VELO_VAR / LOCK) as is_ours:
            while is_ours and not is_suspended() and (version := lifecycle.take_check()):
                _check(version)
    except (DatabaseError, InterfaceError, RedisError, OSError) as error:
        log.warning("checks wait: %s: %s", type(error).__name__, error)
    finally:
        connections.close_all()
        _working.release()


def _command(pk: int) -> list[str]:
    parent = str(os.getpid())
    manage = str(settings.BASE_DIR / "manage.py")
    return [sys.executable, manage, "check_version", str(pk), "--parent", parent]


def _check(version: ModelVersion) -> None:
    """Run its check and see how it ends: a process that didn't say so itself has rejected its
    version. It is started by this thread, since the kernel ends it with the thread."""
    with subprocess.Popen(  # nosec B603
        _command(version.pk),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            why, said = _until_it_ends(version, process)
        finally:
            process.kill()  # if something failed here
    if not why:
        return
    log.error("the check of %s failed: %s\n%s", version, why, said)
    try:
        reject(version, f"The check failed: {why}.\n{said[-TOLD:]}")
    except lifecycle.Refused as error:  # it had said so itself
        log.info("%s", error)


def _until_it_ends(version: ModelVersion, process: subprocess.Popen[str]) -> tuple[str, str]:
    """Why it failed, or nothing, and what it said. Shows that it is alive as long as it is: a model
    may hold Python's lock for longer than the process could stay silent itself."""
    until = time.monotonic() + settings.VELO_CHECK_TIMEOUT
    while True:
        left = until - time.monotonic()
        try:
            _, said = process.communicate(timeout=min(BEAT, max(0.0, left)))
        except subprocess.TimeoutExpired:
            if left > 0:
                with suppress(DatabaseError, InterfaceError):
                    _beat(version)
                continue
            process.kill()
            _, said = process.communicate()
            allowed = f"{settings.VELO_CHECK_TIMEOUT} s"
            cure = "Raise VELO_CHECK_TIMEOUT if a model of this size needs more"
            return f"it took longer than {allowed}. {cure}", said
        code = process.returncode
        return (f"its process ended with {_reason(code)}" if code else ""), said


def _beat(version: ModelVersion) -> None:
    checking = ModelVersion.objects.filter(pk=version.pk, state=ModelVersion.State.CHECKING)
    checking.update(checked_at=timezone.now())


def _reason(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def reject(version: ModelVersion, reason: str) -> None:
    """Raises Refused."""
    lifecycle.move(version, ModelVersion.State.REJECTED, reason=reason.strip())
    plan.publish()

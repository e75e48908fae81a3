"""Rescue: live workers put the jobs of dead workers back, each job once."""

import logging
import time
import zlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from django.conf import settings
from redis import Redis
from rq.defaults import RQ_KEY_PREFIX
from rq.job import Job
from rq.utils import now, utcformat

from workers.broker import leases, ledger, wire
from workers.broker.connection import connection, script
from workers.broker.leases import Registration
from workers.broker.roster import Roster
from workers.broker.wire import JSONSerializer

log = logging.getLogger(__name__)

LOOK = 0.2  # seconds between two looks whether a lease is over
RAN_OUT = "its lease ran out"
GONE = "its process is gone"
HUNG = "a model call took longer than its jobs may"
ASKED_APART = b64encode(JSONSerializer.dumps(wire.apart(crashes=1)))


@dataclass(frozen=True)
class Loss:
    """A worker that died."""

    worker: str
    at: datetime  # when it was noticed
    why: str
    rescued: int  # jobs that were put back, or whose inputs are asked apart
    failed: int  # jobs that had been in too many crashes


def rescue(judge_leases: bool = True, roster: Roster | None = None) -> list[Loss]:
    """Put back the jobs of workers whose process is gone from this machine and, if we may judge
    that, of workers whose lease is over. `roster`: what this process knows of the others from its
    last look; without it everything is read. Each loss waits for the database, see ledger.py."""
    roster = roster or Roster()
    missed = roster.look(judge_leases)
    losses = [_rescue(one, sure=True) for one in missed.gone]
    losses += [_rescue(one, sure=False) for one in missed.silent if one not in missed.gone]
    if None in losses:  # it wasn't dead after all, or somebody else was first
        roster.forget()
    return [loss for loss in losses if loss]


def rescue_namesake(name: str) -> list[Loss]:
    """Make room for a worker of this name, where the worker that had it before has died."""
    give_up = time.monotonic() + settings.VELO_LEASE + 1  # then it lives, and RQ will say so
    while namesakes := [one for one in leases.registered() if one.worker == name]:
        for namesake in leases.over(namesakes):
            if loss := _rescue(namesake, sure=False):
                return [loss]
        if time.monotonic() > give_up:
            break
        time.sleep(LOOK)
    return []


def charge(worker: str, executions: Sequence[str], why: str) -> tuple[int, int]:
    """Put back this worker's own jobs as if it had died of them. `executions`: "job id:execution
    id"; returns how many were put back, and how many failed."""
    noticed = now()
    put_back = script("put_back")(
        args=[
            *(RQ_KEY_PREFIX, worker, settings.VELO_MAX_CRASHES, utcformat(noticed), "", "", why),
            *(ASKED_APART, settings.VELO_RESULT_TTL),
            *_histories(connection(), executions, f"{utcformat(noticed)} {worker}: {why}"),
        ],
        client=connection(),
    )
    rescued, failed = cast(list[int], put_back)
    return rescued, failed


def _rescue(dead: Registration, sure: bool) -> Loss | None:
    """None if it wasn't dead, or somebody else was first."""
    noticed, why = now(), GONE if sure else RAN_OUT
    index = f"{RQ_KEY_PREFIX}:worker:{dead.worker}:executions"
    executions = [name.decode() for name in cast(set[bytes], connection().smembers(index))]
    outcome = script("put_back")(
        keys=[leases.REGISTRY, dead.changes, ledger.LOSSES, *dead.leases],
        args=[
            *(RQ_KEY_PREFIX, dead.worker, settings.VELO_MAX_CRASHES, utcformat(noticed)),
            *(dead.entry, int(sure), why, ASKED_APART, settings.VELO_RESULT_TTL),
            *_histories(connection(), executions, f"{utcformat(noticed)} {dead.worker}: {why}"),
        ],
        client=connection(),
    )
    if not outcome:
        return None
    rescued, failed = cast(list[int], outcome)
    log.warning(
        "worker %s is lost: %s; %d jobs put back, %d failed as poisonous",
        *(dead.worker, why, rescued, failed),
    )
    return Loss(dead.worker, noticed, why, rescued, failed)


def _histories(redis: Redis, executions: Sequence[str], crash: str) -> list[str | bytes]:
    """What the script needs about each job, in the order in which the jobs were enqueued."""
    with redis.pipeline(transaction=False) as pipeline:
        for execution in executions:
            job_id = execution.rpartition(":")[0]
            pipeline.hmget(Job.key_for(job_id), "enqueued_at", "crash_log")
        known = pipeline.execute() if executions else []
    words: list[str | bytes] = []
    by_age = sorted(zip(known, executions, strict=True), key=lambda pair: pair[0][0] or b"")
    for (_, earlier), execution in by_age:
        history = f"{earlier.decode()}\n{crash}" if earlier else crash
        words += (execution, history, b64encode(zlib.compress(_traceback(history).encode())))
    return words


def _traceback(history: str) -> str:
    count = history.count("\n") + 1
    return (
        f"Poisonous: {count} crashes with this job in flight (VELO_MAX_CRASHES={count}), so it "
        f"isn't tried again. They were:\n{history}"
    )

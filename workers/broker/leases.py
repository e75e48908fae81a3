"""Leases: each worker that can serve renews its lease; an expired lease means a lost worker."""

import json
import os
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any, cast

from django.conf import settings

from workers.broker.connection import connection, script
from workers.broker.names import EVERYBODY, leases_key
from workers.host import machine

REGISTRY = "velo:workers"  # a hash: what each worker with a lease says of itself
CHANGES = "velo:changes:"  # and a place: counts how often its registrations have changed
FIELDS = {"queues", "declares", "place", "pid", "started"}
REASON_CHARS = 500  # of why a version isn't served
FAILED_STARTS = "velo:failed-start:"  # and the queue's name
FAILED_START_KEPT = 120  # seconds, longer than any pause between two starts
FORGET_AFTER = 3600  # seconds after its end until a lease that was never given back is forgotten


class Renewal(IntEnum):
    """What came of renewing the leases of a worker."""

    GONE = -1  # not renewed: its jobs were given away, or Redis has lost what it knew
    LATE = 0  # it was over, but nobody had noticed
    IN_TIME = 1


@dataclass(frozen=True)
class Registration:
    """What the registry says of a worker."""

    worker: str
    entry: str  # as it stands there

    @cached_property
    def _fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads(self.entry)
        return fields

    def is_readable(self) -> bool:
        """Whether it has all FIELDS; another version of Velo may write others."""
        try:
            return self._fields.keys() >= FIELDS
        except (ValueError, AttributeError):
            return False

    @property
    def queues(self) -> list[str]:
        """That it serves: "name@version" of each version it has in memory, and RQ's own."""
        queues: list[str] = self._fields["queues"]
        return queues

    @property
    def declares(self) -> str | None:
        """The version that it was started with, if that is reason enough to send requests there."""
        declared: str | None = self._fields["declares"]
        return declared

    @property
    def problems(self) -> dict[str, str]:
        """Why it doesn't serve versions that it is to hold, by label; "" is the label of what its
        environment names."""
        problems: dict[str, str] = self._fields.get("problems", {})
        return problems

    @property
    def takes_several(self) -> bool:
        """Whether it can answer a job with several inputs: an older version of Velo can't."""
        return bool(self._fields.get("several"))

    @property
    def leases(self) -> list[str]:
        """Keys of its leases; the first is that of its being alive."""
        return _leases(self.queues)

    @property
    def changes(self) -> str:
        """Key of the counter that moves when this registration comes, changes or goes."""
        return changes_key(self._fields["place"])

    def is_at(self, place: str) -> bool:
        """Whether its process runs at this place; see machine.place."""
        return bool(self._fields["place"] == place)

    def process_is_gone(self) -> bool:
        """Whether that can be said from here, and it is."""
        if not self.is_at(machine.place()):
            return False
        started = machine.process_started(self._fields["pid"])
        return started is None or started not in ("", self._fields["started"])

    def renew(self, create: bool = False, without: Collection[str] = ()) -> Renewal:
        """Known to be alive for VELO_LEASE seconds from now. `create`: also if it isn't registered;
        `without`: queues that it has left meanwhile."""
        outcome = script("renew")(
            keys=[
                REGISTRY,
                self.changes,
                *_leases(name for name in self.queues if name not in without),
            ],
            args=[self.worker, self.entry, settings.VELO_LEASE, int(create), FORGET_AFTER],
            client=connection(),
        )
        return Renewal(cast(int, outcome))

    def give_back(self) -> None:
        """Takes no more jobs from now on."""
        with connection().pipeline() as pipeline:
            pipeline.hdel(REGISTRY, self.worker)
            pipeline.incr(self.changes)
            pipeline.expire(self.changes, FORGET_AFTER)
            for key in self.leases:
                pipeline.zrem(key, self.worker)
            pipeline.execute()


def _leases(queues: Iterable[str]) -> list[str]:
    return [leases_key(name) for name in (EVERYBODY, *queues)]


def changes_key(place: str) -> str:
    """The counter of changes of the registrations at this place; it expires when nothing has
    changed for FORGET_AFTER."""
    return f"{CHANGES}{place}"


def of_this_process(
    worker: str,
    queues: Sequence[str],
    declares: str | None = None,
    problems: Mapping[str, str] | None = None,
) -> Registration:
    """What this process registers for `worker`, which serves `queues`."""
    fields = {
        "queues": list(queues),
        "declares": declares,
        "place": machine.place(),
        "pid": os.getpid(),
        "started": machine.process_started(os.getpid()),
        "several": True,
        "problems": {name: why[-REASON_CHARS:] for name, why in (problems or {}).items()},
    }
    return Registration(worker, json.dumps(fields))


def registered() -> list[Registration]:
    """Of all workers with a lease, but what another version of Velo may have written there."""
    found = cast(dict[bytes, bytes], connection().hgetall(REGISTRY))
    all_of_them = [Registration(worker.decode(), entry.decode()) for worker, entry in found.items()]
    return [one for one in all_of_them if one.is_readable()]


def over(registrations: Sequence[Registration]) -> list[Registration]:
    """Registrations whose leases are all over, by the server's clock. One round trip."""
    with connection().pipeline(transaction=False) as pipeline:
        pipeline.time()
        for registration in registrations:
            for key in registration.leases:
                pipeline.zscore(key, registration.worker)
        (seconds, microseconds), *scores = pipeline.execute()
    now = seconds + microseconds / 1e6
    found = []
    for registration in registrations:
        own = [scores.pop(0) for _ in registration.leases]
        if all(score is None or score < now for score in own):
            found.append(registration)
    return found


def note_failed_start(queues: Sequence[str], reason: str) -> int:
    """Keep for a while why a worker couldn't start; returns how many such starts there were in a
    row."""
    with connection().pipeline() as pipeline:
        for name in queues:
            pipeline.incr(f"{FAILED_STARTS}{name}:count")
            pipeline.expire(f"{FAILED_STARTS}{name}:count", FAILED_START_KEPT)
            pipeline.set(f"{FAILED_STARTS}{name}", reason, ex=FAILED_START_KEPT)
        count, *_ = pipeline.execute()
    return cast(int, count)


def forget_failed_starts(queues: Sequence[str]) -> None:
    """A worker of these queues has started. Raises RedisError."""
    keys = [f"{FAILED_STARTS}{name}" for name in queues]
    connection().delete(*keys, *(f"{key}:count" for key in keys))


def failed_start(name: str) -> str | None:
    """Why the last worker for this queue couldn't start; None if there is nothing to say."""
    reason = cast(bytes | None, connection().get(f"{FAILED_STARTS}{name}"))
    return reason.decode() if reason else None


class Steadiness:
    """Whether we may judge the silence of others: not while we were silent ourselves, since what
    stopped us, a Redis that was away or a clock that jumped, may have stopped them."""

    def __init__(self) -> None:
        self._since = -float("inf")

    def note(self, renewal: Renewal) -> None:
        """What came of the last renewal."""
        if renewal is not Renewal.IN_TIME:
            self._since = time.monotonic()

    def may_judge(self) -> bool:
        """Whether all renewals of the last VELO_LEASE seconds came in time."""
        return time.monotonic() - self._since > settings.VELO_LEASE

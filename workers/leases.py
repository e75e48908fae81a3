"""Who is alive: each worker that can serve renews a lease, for as long as it can."""

from collections.abc import Iterable

from django.conf import settings

from workers.queue import clock, connection, leases_key

FORGET_AFTER = 3600  # seconds after its end until a lease that was never given back is forgotten


def renew(worker: str, queues: Iterable[str]) -> None:
    """Known to be alive, with a loaded model, for VELO_LEASE seconds from now."""
    now = clock.now()
    with connection().pipeline(transaction=False) as pipeline:
        for name in queues:
            pipeline.zadd(leases_key(name), {worker: now + settings.VELO_LEASE})
            pipeline.zremrangebyscore(leases_key(name), 0, now - FORGET_AFTER)
        pipeline.execute()


def give_back(worker: str, queues: Iterable[str]) -> None:
    """Takes no more jobs from now on."""
    for name in queues:
        connection().zrem(leases_key(name), worker)

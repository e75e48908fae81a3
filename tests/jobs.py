"""Jobs as the web process enqueues them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from rq.job import Job

from inference.asking import new_job
from workers.broker import claims, leases
from workers.broker import enqueue as broker
from workers.broker.claims import Claim
from workers.broker.connection import connection, queue
from workers.broker.enqueue import NewJob
from workers.broker.leases import Registration
from workers.broker.names import EVERYBODY, QUEUE, leases_key
from workers.broker.wire import JSONSerializer


def live(worker: str, *queues: str) -> None:
    """As if this process were such a worker, for as long as a test takes."""
    register(leases.of_this_process(worker, queues or (QUEUE,)))


@contextmanager
def admitted(*queues: str) -> Iterator[None]:
    """Somebody is alive meanwhile, or jobs would be refused; afterwards nobody takes a share."""
    somebody = leases.of_this_process("a test", queues or (QUEUE,))
    register(somebody)
    yield
    somebody.give_back()


def register(worker: Registration, seconds: float = 60.0) -> None:
    """Its leases end `seconds` from now: a busy machine may need longer than VELO_LEASE."""
    worker.renew(create=True)
    lease_lasts(worker.worker, seconds, *worker.queues)


def claim(worker: str, *queues: str, limit: int = 32) -> list[Claim]:
    """What a worker with a lease gets."""
    live(worker, *queues)
    names = queues or (QUEUE,)
    return claims.claim(connection(), worker, [queue(name) for name in names], limit)


def waiting(label: str, data: Any = "text", **fields: Any) -> str:
    """A job in the queue of this version, which somebody serves; its id. It doesn't expire."""
    job = NewJob(label, data, f"infer: {data}", 30, **fields)
    with admitted(label):
        assert broker.enqueue(label, [job]).admitted
    connection().persist(Job.key_for(job.id))
    return job.id


def enqueue(text: str) -> Job:
    """What a web process lets in while somebody is alive."""
    job = new_job(QUEUE, text, settings.VELO_REQUEST_TIMEOUT)
    with admitted():
        assert broker.enqueue(QUEUE, [job]).admitted
    return Job.fetch(job.id, connection(), JSONSerializer)


def lease_lasts(worker: str, seconds: float, *queues: str) -> None:
    """All leases of this worker end `seconds` from now by Redis's clock; below 0: they are over."""
    until = server_time() + seconds
    for name in (EVERYBODY, *(queues or (QUEUE,))):
        connection().zadd(leases_key(name), {worker: until})


def server_time() -> float:
    """What Redis says that it is, in Unix seconds."""
    seconds, microseconds = connection().time()
    return float(seconds + microseconds / 1e6)

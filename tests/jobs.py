"""Jobs as the web process enqueues them."""

from django.conf import settings
from rq.job import Job

from inference import dispatch
from workers.broker import claims, leases
from workers.broker import enqueue as broker
from workers.broker.claims import Claim
from workers.broker.connection import connection, queue
from workers.broker.names import QUEUE
from workers.broker.wire import JSONSerializer


def live(worker: str, *queues: str) -> None:
    """As if this process were such a worker."""
    leases.of_this_process(worker, queues or (QUEUE,)).renew(anew=True)


def claim(worker: str, *queues: str, limit: int = 32) -> list[Claim]:
    """What a worker with a lease gets."""
    live(worker, *queues)
    names = queues or (QUEUE,)
    return claims.claim(connection(), worker, [queue(name) for name in names], limit)


def enqueue(text: str) -> Job:
    """With somebody alive, or it would be refused."""
    live("a test")
    job = dispatch._job(QUEUE, text, settings.VELO_REQUEST_TIMEOUT)
    assert broker.enqueue(QUEUE, [job]).admitted
    return Job.fetch(job.id, connection(), JSONSerializer)

"""Jobs as the web process enqueues them."""

from django.conf import settings
from rq.job import Job

from inference import dispatch
from workers import claims, leases, queue
from workers.claims import Claim
from workers.wire import JSONSerializer


def live(worker: str, *queues: str) -> None:
    """As if this process were such a worker."""
    leases.of_this_process(worker, queues or (queue.QUEUE,)).renew(anew=True)


def claim(worker: str, *queues: str, limit: int = 32) -> list[Claim]:
    """What a worker with a lease gets."""
    live(worker, *queues)
    names = queues or (queue.QUEUE,)
    return claims.claim(queue.connection(), worker, [queue.queue(name) for name in names], limit)


def enqueue(text: str) -> Job:
    """With somebody alive, or it would be refused."""
    live("a test")
    job = dispatch._job(queue.QUEUE, text, settings.VELO_REQUEST_TIMEOUT)
    assert queue.enqueue(queue.QUEUE, [job]).admitted
    return Job.fetch(job.id, queue.connection(), JSONSerializer)

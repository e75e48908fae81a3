"""Jobs as the web process enqueues them."""

from rq.job import Job

from inference import dispatch
from workers import leases, queue
from workers.wire import JSONSerializer


def enqueue(text: str) -> Job:
    """With somebody alive, or it would be refused."""
    leases.renew("a test", [queue.QUEUE])
    job = dispatch._job(text)
    assert queue.enqueue([job]).admitted
    return Job.fetch(job.id, queue.connection(), JSONSerializer)

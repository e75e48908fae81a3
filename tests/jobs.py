"""Jobs as the web process enqueues them."""

from rq.job import Job

from inference import dispatch
from workers import leases, queue
from workers.wire import JSONSerializer


def enqueue(text: str) -> Job:
    """With somebody alive, or it would be refused."""
    leases.renew("a test", [queue.QUEUE])
    job_id = dispatch._enqueue(text)
    return Job.fetch(job_id, queue.connection(), JSONSerializer)

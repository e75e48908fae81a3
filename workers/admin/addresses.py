"""The addresses of queues and jobs: by the queue's name and the job's id, which don't move."""

from collections.abc import Iterable

from django.contrib.admin.utils import quote
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from workers.admin.look import link


def queue_page(queue: str, **query: str | int) -> str:
    return _with(reverse("admin:workers_queue_queue", args=[_quoted(queue)]), query.items())


def job_page(queue: str, job_id: str) -> str:
    return reverse("admin:workers_queue_job", args=[_quoted(queue), quote(job_id)])


def action_page(queue: str, action: str, ids: Iterable[str] = ()) -> str:
    """Where the action is confirmed, for these jobs."""
    address = reverse("admin:workers_queue_act", args=[_quoted(queue), action])
    return _with(address, [("job", job_id) for job_id in ids])


def queue_link(queue: str) -> SafeString:
    return link(queue_page(queue), queue)


def _quoted(name: str) -> str:
    """As the admin writes keys in its addresses, but for the @, which needs no quotes."""
    return quote(name).replace("_40", "@")


def _with(address: str, query: Iterable[tuple[str, str | int]]) -> str:
    words = urlencode(list(query))
    return f"{address}?{words}" if words else address

"""What is kept of a job's attempts that failed."""

import math

from django.conf import settings
from rq.executions import Execution
from rq.job import Job
from rq.results import Result
from rq.utils import now

from workers.broker.connection import script


def note(job: Job, worker: str, traceback: str, execution: Execution | None) -> None:
    """An attempt failed that isn't the last, among the job's results: RQ writes the last only.
    Raises RedisError."""
    kept = math.ceil(settings.VELO_REQUEST_TIMEOUT) + settings.VELO_RESULT_TTL
    Result.create(
        job,
        Result.Type.RETRIED,
        kept,
        exc_string=traceback,
        worker_name=worker,
        execution_id=execution.id if execution else None,
        execution_started_at=job.started_at,
        execution_ended_at=now(),
    )


def release(job: Job) -> None:
    """A job that has failed for good counts no more among the inputs of its client. Raises
    RedisError."""
    script("release")(keys=[job.key], args=[job.id], client=job.connection)

"""What a person does to queues and their jobs: put back, cancel, delete, empty."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import cast

from rq.defaults import RQ_KEY_PREFIX
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import Job, JobStatus
from rq.utils import utcformat

from workers.broker.clock import clock
from workers.broker.connection import connection, queue, script
from workers.broker.inspecting import Place
from workers.broker.wire import JSONSerializer

REQUEUED_FROM = Place.FAILED, Place.FINISHED, Place.CANCELED, Place.SCHEDULED
WAITING = JobStatus.QUEUED, JobStatus.SCHEDULED, JobStatus.DEFERRED


def requeue(name: str, ids: Sequence[str]) -> list[str]:
    """Ask for jobs of this queue again; returns the ids of the jobs that wait there now.

    By the clock that deadlines are noted with: see deadlines.is_asked_again.
    """
    outcomes = script("requeue")(
        keys=[Place.QUEUED.key(name), *(place.key(name) for place in REQUEUED_FROM)],
        args=[RQ_KEY_PREFIX, name, utcformat(datetime.fromtimestamp(clock.now(), UTC)), *ids],
        client=connection(),
    )
    return [job_id for job_id, done in zip(ids, cast(list[int], outcomes), strict=True) if done]


def cancel(name: str, ids: Sequence[str]) -> list[str]:
    """Let jobs that wait never run; what is known of them stays. Returns the ids of these jobs."""
    done = []
    for job in _jobs(name, ids):
        if job.get_status(refresh=False) in WAITING:
            try:
                job.cancel()
            except InvalidJobOperation:  # somebody else was first
                continue
            done.append(job.id)
    _unlist(name, done)
    return done


def delete(name: str, ids: Sequence[str]) -> list[str]:
    """Forget jobs that don't run. Returns the ids of these jobs."""
    done = []
    for job in _jobs(name, ids):
        if job.get_status(refresh=False) is not JobStatus.STARTED:
            job.delete()
            done.append(job.id)
    _unlist(name, done)
    return done


def empty(name: str) -> int:
    """Delete all jobs that wait in the queue; returns how many inputs they had."""
    return cast(int, queue(name).empty())


def _unlist(name: str, ids: Sequence[str]) -> None:
    """RQ takes a job out of its list once. A job with several inputs stands there several times."""
    with connection().pipeline(transaction=False) as pipeline:
        for job_id in ids:
            pipeline.lrem(Place.QUEUED.key(name), 0, job_id)
        pipeline.execute()


def _jobs(name: str, ids: Iterable[str]) -> Iterable[Job]:
    """Jobs that are there, and belong to this queue. A job that is claimed meanwhile loses its
    answer, since `finish` writes none for a job that isn't started any more."""
    for job_id in ids:
        try:
            job = Job.fetch(job_id, connection(), JSONSerializer)
        except (NoSuchJobError, ValueError):  # or not a valid id
            continue
        if job.origin == name:
            yield job

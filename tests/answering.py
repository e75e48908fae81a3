"""What the web side finds in Redis, without a worker: a plan, leases, and answers by hand."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from rq.job import Job
from rq.results import Result

from inference.routing import routes
from tests.jobs import register
from workers.broker import leases
from workers.broker.connection import connection, queue
from workers.broker.wire import JSONSerializer, apart, pack, together
from workers.catalog import plan
from workers.catalog.plan import Plan, PlannedModel, PlannedVersion
from workers.values.prediction import Prediction


def version(model: str, name: str, state: str = "ready", **fields: Any) -> PlannedVersion:
    known: dict[str, Any] = {"source": "", "digest": "", "options": {}, "memory": None}
    known |= {"dimensions": 2, "schemas": {}} | fields
    return PlannedVersion(model, name, state, **known)


def model(name: str, *versions: str, kind: str = "embed", **fields: Any) -> PlannedModel:
    known = {one: version(name, one) for one in versions}
    return PlannedModel(name, kind, **{"follows_environment": False, "versions": known} | fields)


def plan_of(*models: PlannedModel) -> Plan:
    """The first one is the default."""
    return Plan(models[0].name if models else None, {one.name: one for one in models})


def publish(published: Plan, workers: Mapping[str, list[str]]) -> None:
    """`workers`: what each serves; the first is the version that it was started with."""
    connection().set(plan.KEY, published.to_json())
    for worker, labels in workers.items():
        register(leases.of_this_process(worker, labels, labels[0]))
    routes().refresh()


def leave(worker: str) -> None:
    for registration in leases.registered():
        if registration.worker == worker:
            registration.give_back()


def lose(worker: str) -> None:
    """As if it had died, and nobody had noticed: it is in the registry still."""
    for registration in leases.registered():
        if registration.worker == worker:
            with connection().pipeline() as pipeline:
                for key in registration.leases:
                    pipeline.zrem(key, worker)
                pipeline.execute()


def waiting(label: str) -> list[str]:
    """Ids of the jobs."""
    return [entry.decode() for entry in connection().lrange(queue(label).key, 0, -1)]


def arguments(job_id: str) -> list[Any]:
    job = Job.fetch(job_id, connection(), JSONSerializer)
    return list(job.args)


def prediction(output: Any, label: str) -> Prediction:
    return Prediction(output, label, "by hand", 3, False, 0.001, 0.01)


class Packing(JSONSerializer):
    """Writes vectors as numbers, as workers do; its parent writes JSON, as older workers do."""

    dumps = staticmethod(pack)


def write(
    job_id: str,
    value: Any,
    kind: Result.Type = Result.Type.SUCCESSFUL,
    serializer: type[JSONSerializer] = Packing,
) -> None:
    """As a worker does."""
    result = Result(job_id, kind, connection(), return_value=value, serializer=serializer)
    result.save(ttl=60)


@dataclass(frozen=True)
class Refused:
    """What a model refuses an input with."""

    code: str
    message: str


@contextmanager
def answering(
    labels: list[str],
    answer: Callable[[str, Any], Any] = lambda label, data: [0.6, 0.8],
    serializer: type[JSONSerializer] = Packing,
    by_parameters: Callable[[str, Any, Any], Any] | None = None,
) -> Iterator[list[tuple[str, list[Any]]]]:
    """A thread that answers what these queues get, as workers would; and what it has got.

    `by_parameters`: instead of `answer`, where the request's parameters matter.
    """
    got: list[tuple[str, list[Any]]] = []
    over = threading.Event()

    def to_input(label: str, data: Any, parameters: Any) -> dict[str, Any]:
        value = by_parameters(label, data, parameters) if by_parameters else answer(label, data)
        if isinstance(value, Refused):
            return {"refused": asdict(value)}
        return asdict(prediction(value, label))

    def to_job(label: str, job: Job) -> dict[str, Any]:
        parameters = job.kwargs.get("parameters", {})
        if not job.kwargs.get("several"):
            return to_input(label, job.args[0], parameters)
        answers = [to_input(label, data, parameters) for data in job.args[0]]
        if any("refused" in one for one in answers):
            return apart(crashes=0)
        return together(answers)

    def work() -> None:
        while not over.is_set():
            for label in labels:
                while job_id := connection().lpop(queue(label).key):
                    found = arguments(job_id.decode())
                    got.append((label, found))
                    job = Job.fetch(job_id.decode(), connection(), JSONSerializer)
                    value = to_job(label, job)
                    write(job_id.decode(), value, serializer=serializer)
                    connection().lrem(queue(label).key, 0, job_id)  # once for each input
            over.wait(0.002)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield got
    finally:
        over.set()
        thread.join()

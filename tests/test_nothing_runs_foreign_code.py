"""Nothing that comes over the wire or lies in a model's folder is code to Velo.

A pickle runs whatever it likes when it is read: this one leaves a file behind.
"""

import pickle
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from django.contrib.auth import get_user_model
from django.test import Client
from rq import Queue
from rq.job import Job
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry
from rq.results import Result
from rq.worker import SimpleWorker

from tests.jobs import enqueue
from tests.models import spec
from workers import jobs, predictors
from workers.admin.addresses import action_page, job_page, queue_page
from workers.admin.queue_actions import ACTIONS
from workers.broker.connection import connection, queue
from workers.broker.inspecting import UNREADABLE, Place
from workers.broker.names import QUEUE
from workers.predictors import embed
from workers.runtime.worker import InferenceWorker


class Pickled:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.proof,)


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    """It exists once the pickle has run."""
    return tmp_path / "ran"


@pytest.fixture
def evil(proof: Path) -> bytes:
    pickled = pickle.dumps(Pickled(proof))
    pickle.loads(pickled)
    assert proof.exists()
    proof.unlink()
    return pickled


@pytest.fixture
def admin() -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(get_user_model().objects.create_superuser("admin"))
    return client


def poison(job: Job, evil: bytes) -> None:
    """Wherever RQ keeps what a serializer has made."""
    for field in ("data", "meta", "result"):
        connection().hset(job.key, field, evil)
    entry = {"type": Result.Type.SUCCESSFUL.value, "return_value": b64encode(evil)}
    connection().xadd(Result.get_key(job.id), entry)


@pytest.mark.usefixtures("redis")
@pytest.mark.django_db(transaction=True)
def test_a_pickle_in_redis_is_not_read_by_the_admins_pages(
    admin: Client, evil: bytes, proof: Path
) -> None:
    job = enqueue("text")
    for registry in (FailedJobRegistry, FinishedJobRegistry):
        registry(queue=queue()).add(job, 60)
    worker = SimpleWorker([queue()], connection=connection())
    worker.register_birth()
    worker.prepare_execution(job)
    assert StartedJobRegistry(queue=queue()).get_job_ids() == [job.id]
    poison(job, evil)
    pages = ["/admin/workers/queue/", *(queue_page(QUEUE, place=place) for place in Place)]
    for page in (*pages, *(action_page(QUEUE, action, [job.id]) for action in ACTIONS)):
        assert admin.get(page).status_code == 200, page
        assert not proof.exists(), page
    shown = admin.get(job_page(QUEUE, job.id))
    assert shown.status_code == 200
    assert UNREADABLE.replace("'", "&#x27;") in shown.content.decode()
    for action in ("requeue", "cancel", "delete"):
        admin.post(action_page(QUEUE, action, [job.id]), {"reason": "r"})
        assert not proof.exists(), action


@pytest.mark.usefixtures("redis")
@pytest.mark.django_db(transaction=True)
def test_a_pickle_in_the_queue_is_not_read_by_a_worker(
    settings: Any, evil: bytes, proof: Path
) -> None:
    settings.VELO_PREDICTOR = "sleep"
    poison(enqueue("text"), evil)
    worker = InferenceWorker([queue()], connection=connection())
    try:
        worker.work(burst=True)
    finally:
        jobs.install(None)
    assert not proof.exists()
    assert worker.done == 0


@pytest.mark.usefixtures("redis")
def test_rq_reads_json_even_where_nobody_says_so(evil: bytes, proof: Path) -> None:
    origin = Queue(QUEUE, connection=connection())
    job = origin.enqueue("operator.add", 2, 3)
    poison(job, evil)
    Job.fetch(job.id, connection=connection()).get_meta(refresh=False)
    with pytest.raises(ValueError, match="line 1 column 1"):
        origin.serializer.loads(evil)
    assert not proof.exists()


@pytest.mark.parametrize("old", [False, True])
def test_a_pickle_that_is_more_than_weights_is_refused(
    tiny_model: Path, tmp_path: Path, proof: Path, old: bool
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in tiny_model.iterdir():
        (folder / path.name).symlink_to(path)
    weights = folder / "pytorch_model.bin"
    weights.unlink()
    torch.save({"embeddings": Pickled(proof)}, weights, _use_new_zipfile_serialization=not old)
    with pytest.raises(predictors.ModelError, match="aren't plain tensors") as refused:
        embed.load(spec(folder), 1)
    assert not proof.exists()
    assert str(folder) in str(refused.value)
    assert "weights_only" not in str(refused.value)  # torch's advice to read it nevertheless

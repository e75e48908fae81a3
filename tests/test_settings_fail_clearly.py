"""Everything by environment variables; a wrong one is refused by name, with the cure."""

from pathlib import Path

import pytest
from django_rq import get_queue

from tests.stack import manage
from workers.broker.connection import connection, queue
from workers.broker.wire import JSONSerializer
from workers.runtime.worker import InferenceWorker

GOOD = {
    "DJANGO_SECRET_KEY": "0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJKLMNOPQ",
    "DJANGO_ALLOWED_HOSTS": "velo.example.com",
}


def test_production_settings_pass_every_deployment_check(tmp_path: Path) -> None:
    checked = manage(tmp_path, "check", "--deploy", "--fail-level", "WARNING", **GOOD)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("name", sorted(GOOD))
def test_a_missing_one_is_a_refusal_to_start(tmp_path: Path, name: str) -> None:
    knobs = {key: value for key, value in GOOD.items() if key != name}
    refused = manage(tmp_path, "check", **knobs)
    assert refused.returncode != 0
    assert f"{name} is not set." in refused.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("PORT", "http", "is not a whole number from 1 up"),
        ("VELO_MAX_QUEUE", "0", "is not a whole number from 1 up"),
        ("VELO_REQUEST_TIMEOUT", "nan", "is not a number of seconds from 0.001 up"),
        ("VELO_REQUEST_TIMEOUT", "inf", "is not a number of seconds"),
        ("VELO_RETRY_INTERVALS", "1,soon", "is not a list of whole numbers"),
        ("VELO_PREDICTOR", "gpt", "is not one of embed, sleep"),
        ("VELO_MODEL_ROOTS", "/models,models", "is not a list of absolute folders"),
        ("DJANGO_DEBUG", "maybe", "is not a yes or a no"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, name: str, value: str, says: str) -> None:
    refused = manage(tmp_path, "check", **GOOD, **{name: value})
    assert refused.returncode != 0
    last = refused.stderr.splitlines()[-1]
    assert f"{name}='{value}'" in last
    assert says in last


def test_debug_needs_no_host_list(tmp_path: Path) -> None:
    assert manage(tmp_path, "check", DJANGO_SECRET_KEY="x", DJANGO_DEBUG="1").returncode == 0


@pytest.mark.usefixtures("redis")
def test_the_wire_is_json_in_web_workers_and_admin_pages() -> None:
    worker = InferenceWorker(
        [], connection=connection(), prepare_for_work=False, serializer="pickle"
    )
    assert queue().serializer is JSONSerializer
    assert worker.serializer is JSONSerializer
    assert get_queue("default").serializer is JSONSerializer

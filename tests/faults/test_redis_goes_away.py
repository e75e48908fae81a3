"""Redis goes away, comes back, comes back empty, or refuses to be written to: requests are answered
or refused with a reason, workers come back by themselves, nobody hangs."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.load import RIGHT, SLOW, Load
from tests.faults.valkey import (
    Valkey,
    become_a_replica,
    come_back_empty,
    fill_memory,
    flush,
    kill_and_start,
    pause,
)
from tests.stack import Stack, stack
from tests.waiting import eventually


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path)
    yield server
    server.end()


@pytest.fixture
def velo(tmp_path: Path, valkey: Valkey) -> Iterator[Stack]:
    folder = tmp_path / "velo"
    folder.mkdir()
    knobs = {
        "REDIS_URL": f"unix://{valkey.socket}",
        "VELO_PREDICTOR": "sleep",
        "VELO_SLEEP_MS": SLOW,
    }
    with stack(folder, workers=2, **knobs) as running:
        yield running


def goes_on(load: Load, more: int = 100) -> None:
    before = load.right()
    eventually(lambda: load.right() >= before + more, seconds=30)


@pytest.mark.parametrize(
    "fault", [kill_and_start, come_back_empty, flush, pause, fill_memory, become_a_replica]
)
def test_no_request_is_lost_and_all_goes_on(
    velo: Stack, valkey: Valkey, fault: Callable[[Valkey], None]
) -> None:
    with Load(velo) as load:
        goes_on(load)
        fault(valkey)
        goes_on(load)
        eventually(lambda: velo.get("/health/ready").json["workers"] == 2)
        goes_on(load)
    outcomes = load.outcomes
    assert outcomes.keys() <= {RIGHT, "queue_away", "no_worker"}, outcomes
    assert max(one.seconds for one in load.asked) < 30
    # Nothing that stays behind holds up those who come later.
    eventually(lambda: valkey.client.zcard("rq:wip:default") == 0)
    assert valkey.client.llen("rq:queue:default") == 0


def test_who_comes_while_redis_is_away_is_told_at_once(velo: Stack, valkey: Valkey) -> None:
    valkey.kill()
    told = eventually(lambda: velo.transform("a"))
    assert (told.status, told.json["code"]) == (503, "queue_away")
    assert told.headers["retry-after"] == "5"
    valkey.start()
    eventually(lambda: velo.transform("a").status == 200)

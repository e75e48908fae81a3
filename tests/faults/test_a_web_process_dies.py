"""A web process that is killed takes its callers along, and nothing else; one that is told to stop
answers first."""

import os
import signal
import threading
from pathlib import Path

from redis import Redis

from tests.faults.load import CUT, RIGHT, SLOW, Load
from tests.faults.test_a_worker_dies import goes_on
from tests.stack import stack
from tests.waiting import eventually


def test_its_jobs_do_not_pile_up(tmp_path: Path) -> None:
    with stack(tmp_path, VELO_PREDICTOR="sleep", VELO_SLEEP_MS=SLOW) as velo, Load(velo) as load:
        goes_on(load)
        for pid in velo.pids("granian"):
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: load.outcomes[CUT])
        goes_on(load)
        load.stop()
        assert set(load.outcomes) == {RIGHT, CUT}
        eventually(lambda: velo.get("/stat").json["queue_length"] == 0)
        left = velo.manage("rqstats", "--json").stdout
        assert '"started_jobs": 0' in left


def test_it_answers_whom_it_has_let_in_before_it_stops(tmp_path: Path) -> None:
    knobs = {"VELO_PREDICTOR": "sleep", "VELO_SLEEP_MS": 1500}
    with (
        stack(tmp_path, **knobs) as velo,
        Redis(unix_socket_path=str(tmp_path / "valkey.sock")) as redis,
    ):
        answers = []
        caller = threading.Thread(target=lambda: answers.append(velo.transform("a")))
        caller.start()
        eventually(lambda: redis.zcard("rq:wip:sleep@1.0.0"))
        assert velo.stop() == 0
        caller.join()
        assert [answer.status for answer in answers] == [200]

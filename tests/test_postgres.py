"""The whole system on PostgreSQL, through DATABASE_URL."""

from pathlib import Path

from tests.stack import stack
from tests.waiting import eventually


def test_it_runs_on_postgresql(tmp_path: Path, postgres: str) -> None:
    with stack(tmp_path, workers=2, VELO_PREDICTOR="sleep", DATABASE_URL=postgres) as velo:
        for number in range(10):
            assert velo.transform(f"text {number}").status == 200
        assert not (tmp_path / "velo.sqlite3").exists()
        stat = eventually(lambda: _complete(velo.get("/stat").json))
        assert len(stat["workers"]) == 2
        assert 0.010 < stat["response_time"] < 1


def _complete(stat: dict) -> dict | None:
    times = [worker["model_time"] for worker in stat["workers"].values()]
    return stat if stat["response_time"] and any(times) else None

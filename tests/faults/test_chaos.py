"""With VELO_CHAOS=1 a worker that is sent its own id dies; another one answers (promise S9)."""

from pathlib import Path

import pytest
from django.core.checks import run_checks

from tests.stack import stack
from tests.test_workers import alive, rows
from tests.waiting import eventually


def test_a_worker_that_is_sent_its_own_id_dies_and_another_one_answers(tmp_path: Path) -> None:
    with stack(tmp_path, workers=2, VELO_PREDICTOR="sleep", VELO_CHAOS=1) as velo:
        ids = set(velo.get("/stat").json["workers"])
        victim = velo.transform("hello").headers["x-velo-worker"]
        # The other one may be quicker; then the text is just a text.
        answers = []
        while ["lost"] not in [row[1:] for row in rows(velo, "id", "health") if row[0] == victim]:
            answers.append(velo.transform(victim))
        assert {answer.status for answer in answers} == {200}
        # Until its row says so, its successor may have come too.
        answered = [answer.headers["x-velo-worker"] for answer in answers]
        assert answered[-1] != victim
        assert ids - {victim} <= set(answered)
        eventually(lambda: alive(velo) == 2)
        assert "ended with SIGKILL" in velo.output()


def test_without_it_an_id_is_just_a_text(tmp_path: Path) -> None:
    with stack(tmp_path, VELO_PREDICTOR="sleep") as velo:
        [worker] = velo.get("/stat").json["workers"]
        assert velo.transform(worker).headers["x-velo-worker"] == worker


@pytest.mark.parametrize(("chaos", "debug", "warned"), [(1, 0, True), (1, 1, False), (0, 0, False)])
def test_the_checks_warn_of_it_in_production(
    settings: object, chaos: int, debug: int, warned: bool
) -> None:
    settings.VELO_CHAOS, settings.DEBUG = bool(chaos), bool(debug)
    assert ("velo.W001" in [found.id for found in run_checks()]) == warned

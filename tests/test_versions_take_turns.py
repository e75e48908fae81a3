"""The versions in one worker take turns: a busy one doesn't starve the others."""

import pytest

from tests.jobs import admitted
from tests.letters import Letters, work
from tests.rows import a_model, a_version
from workers.broker import enqueue as broker
from workers.broker.enqueue import NewJob
from workers.broker.names import QUEUE
from workers.models import ServedModel

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db(transaction=True)]


@pytest.fixture
def model(letters: Letters, settings: pytest.MonkeyPatch) -> ServedModel:
    """Two inputs are a batch."""
    settings.VELO_BATCH_MAX = 2
    return a_model("letters", kind="custom")


def let_in(label: str, count: int) -> None:
    """Inputs that name their version."""
    jobs = [NewJob(label, label, label, 30) for _ in range(count)]
    with admitted(label):
        assert broker.enqueue(label, jobs).admitted == count


@pytest.mark.parametrize("busy", ["1", "2", "3"])
def test_what_waits_for_a_quiet_version_is_answered_between_a_busy_ones(
    letters: Letters, model: ServedModel, busy: str
) -> None:
    labels = [a_version(model, version).label for version in "123"]
    quiet = [label for label in labels if not label.endswith(busy)]
    let_in(f"letters@{busy}", 12)
    for label in quiet:
        let_in(label, 2)
    work(*labels)
    asked = [batch[0] for batch in letters.batches]
    assert len(asked) == 8
    assert all(asked.index(label) <= 2 for label in quiet), asked


def test_rqs_own_jobs_have_their_turn_too(letters: Letters, model: ServedModel) -> None:
    label = a_version(model).label
    let_in(label, 12)
    let_in(QUEUE, 2)
    work(label, QUEUE)
    asked = [batch[0] for batch in letters.batches]
    assert asked.index(QUEUE) <= 1, asked

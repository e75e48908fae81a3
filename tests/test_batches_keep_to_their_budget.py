"""What a worker gives its model in one call keeps to VELO_BATCH_MAX and VELO_BATCH_TOKENS."""

from typing import Any

import pytest

from tests.jobs import enqueue
from tests.letters import Letters, work

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db(transaction=True)]


def test_no_call_has_more_padded_tokens_than_allowed(letters: Letters, settings: Any) -> None:
    """A letter is a token here."""
    settings.VELO_BATCH_TOKENS = 24
    texts = ["x" * 8] * 7 + ["y" * 3] * 9
    for text in texts:
        enqueue(text)
    work()
    padded = [len(batch) * max(map(len, batch)) for batch in letters.batches]
    assert max(padded) == 24
    assert sorted(text for batch in letters.batches for text in batch) == texts


def test_a_text_over_the_budget_is_computed_alone(letters: Letters, settings: Any) -> None:
    settings.VELO_BATCH_TOKENS = 24
    for text in ("ab", "x" * 100, "cd"):
        enqueue(text)
    work()
    assert letters.batches == [["ab", "cd"], ["x" * 100]]


def test_no_call_has_more_texts_than_allowed(letters: Letters, settings: Any) -> None:
    settings.VELO_BATCH_MAX = 5
    for _ in range(12):
        enqueue("text")
    work()
    assert letters.calls == [5, 5, 2]


def test_what_a_call_costs_decides_how_texts_are_parted(letters: Letters) -> None:
    """Two calls cost less than padding, where a call costs nothing; and more, where it is dear."""
    for call_tokens, expected in ((0, [["ab"], ["x" * 50]]), (1000, [["ab", "x" * 50]])):
        letters.call_tokens = call_tokens
        letters.batches.clear()
        for text in ("ab", "x" * 50):
            enqueue(text)
        work()
        assert letters.batches == expected

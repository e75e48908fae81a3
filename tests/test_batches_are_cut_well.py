"""Cutting a window into batches: every text once, within the budgets, at the least cost."""

import random
from itertools import combinations, pairwise

import pytest

from workers.values.batching import cut

CALL = 48


def cost(lengths: list[int], batches: list[list[int]]) -> int:
    return sum(max(lengths[i] for i in batch) * len(batch) + CALL for batch in batches)


def cheapest(lengths: list[int], most_items: int, most_tokens: int) -> int:
    """By trying every cut of the sorted texts."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    costs = []
    for count in range(len(order)):
        for places in combinations(range(1, len(order)), count):
            edges = [0, *places, len(order)]
            batches = [order[a:b] for a, b in pairwise(edges)]
            if all(
                len(b) == 1
                or (len(b) <= most_items and len(b) * max(lengths[i] for i in b) <= most_tokens)
                for b in batches
            ):
                costs.append(cost(lengths, batches))
    return min(costs)


@pytest.mark.parametrize("seed", range(20))
def test_it_finds_the_cheapest_cut(seed: int) -> None:
    chance = random.Random(seed)
    lengths = [chance.choice([5, 8, 13, 60, 200, 256]) for _ in range(chance.randint(1, 9))]
    batches = cut(lengths, 4, 600, CALL)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert cost(lengths, batches) == cheapest(lengths, 4, 600)


def test_nothing_is_no_batch() -> None:
    assert cut([], 32, 8192, CALL) == []


def test_texts_of_one_length_are_one_batch() -> None:
    assert cut([12] * 32, 32, 8192, CALL) == [list(range(32))]


def test_one_long_text_does_not_pad_31_short_ones() -> None:
    assert cut([256] + [10] * 31, 32, 8192, CALL) == [list(range(1, 32)), [0]]


def test_a_text_over_the_whole_budget_runs_alone() -> None:
    assert cut([5, 10_000, 5], 32, 1000, CALL) == [[0, 2], [1]]


def test_no_batch_has_more_texts_than_allowed() -> None:
    assert [len(batch) for batch in cut([10] * 70, 32, 8192, CALL)] in ([6, 32, 32], [32, 32, 6])

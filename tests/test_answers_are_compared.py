"""Two answers of any shape are compared: where they differ, and how alike they are."""

import json
import math
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.values import comparing
from workers.values.comparing import RANGES, Likeness, difference, similarity

NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
ANSWERS = st.recursive(
    st.none() | st.booleans() | st.text() | NUMBERS,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
VECTORS = st.lists(st.floats(-1e300, 1e300), min_size=2, max_size=2)
HUGE = 10**400  # JSON allows it, no float holds it


def scores(*pairs: tuple[str, float]) -> list[dict[str, Any]]:
    return [{"label": label, "score": score} for label, score in pairs]


@pytest.mark.parametrize(
    ("expected", "found", "says"),
    [
        (0.95, 0.91, "0.91 instead of 0.95, more than 0.01 apart"),
        (
            [0, 0, 0, {"score": 0.95}],
            [0, 0, 0, {"score": 0.91}],
            "[3].score: 0.91 instead of 0.95, more than 0.01 apart",
        ),
        ([1, 2], [1, 2, 3], "3 items instead of 2"),
        ({"a": [1]}, {"a": []}, ".a: 0 items instead of 1"),
        ({"a": 1}, {}, ".a: is missing"),
        ({}, {"a": 1}, ".a: isn't expected"),
        ({"two words": 1}, {"two words": 2}, '["two words"]: 2 instead of 1'),
        ("ham", "spam", '"spam" instead of "ham"'),
        ({"a": True}, {"a": False}, ".a: false instead of true"),
        (True, 1, "a number instead of a boolean"),
        (0, None, "null instead of a number"),
        ([1], {"0": 1}, "an object instead of an array"),
        ("1", 1, "a number instead of a string"),
        (1, {1}, "set instead of a number"),
        (math.nan, math.nan, "NaN instead of NaN, and only finite numbers can be equal"),
        ([math.inf], [math.inf], "[0]: Infinity instead of Infinity, and only"),
        (1.0, HUGE, "and only finite numbers can be equal"),
        ([[1, 2], [3, 4]], numpy.array([[1, 2], [3, 5]]), "[1][1]: 5 instead of 4"),
        ("a" * 1000, "b" * 1000, "…"),
    ],
)
def test_the_first_difference_is_told(expected: Any, found: Any, says: str) -> None:
    told = difference(expected, found, 0.01)
    assert says in told
    assert len(told) < 200


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        (0.95, 0.945),
        (1, 1.0),
        ([0.1, 0.2], (0.1, 0.2)),
        ([0.1, 0.2], numpy.array([0.1, 0.2], numpy.float32)),
        ({"a": 1, "b": "x"}, {"b": "x", "a": numpy.int64(1)}),
        (10**30, 10**30),
        ([], numpy.array([])),
        (None, None),
    ],
)
def test_no_difference_is_nothing_told(expected: Any, found: Any) -> None:
    assert difference(expected, found, 0.01) == ""


@given(ANSWERS)
def test_an_answer_is_as_itself(answer: Any) -> None:
    same = json.loads(json.dumps(answer))
    assert difference(answer, same, 0.0) == ""


@given(ANSWERS, ANSWERS)
def test_any_two_answers_can_be_compared(one: Any, other: Any) -> None:
    assert -1 <= similarity(one, other) <= 1
    assert similarity(one, other) == similarity(other, one)
    assert bool(difference(one, other, 0.1)) == bool(difference(other, one, 0.1))


@given(VECTORS, VECTORS)
def test_the_cosine_of_vectors_of_any_size(one: list[float], other: list[float]) -> None:
    least = max(map(abs, [*one, *other])) * 1e-6
    one, other = ([0.0 if abs(x) < least else x for x in vector] for vector in (one, other))
    found = similarity(one, other)
    if any(one) and any(other):
        between = math.atan2(one[1], one[0]) - math.atan2(other[1], other[0])
        assert found == pytest.approx(math.cos(between), abs=1e-9)
    else:
        assert found == 0.0


@pytest.mark.parametrize(
    ("expected", "found", "alike"),
    [
        ([1.0, 0.0], [1, 0], 1.0),
        ([1.0, 0.0], [2, 0], 1.0),
        ([1.0, 0.0], [-1, 0], -1.0),
        ([1.0, 0.0], [0.6, 0.8], 0.6),
        (numpy.array([1.0, 0.0], numpy.float32), [0.6, 0.8], 0.6),
        ([1.0, 0.0], [numpy.float32(1), numpy.float32(0)], 1.0),
        # No direction
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, 0.0], [1.0, 0.0], 0.0),
        ([1.0, 2.0], [1.0, 2.0, 3.0], 0.0),
        ([1.0, math.nan], [1.0, math.nan], 0.0),
        ([1.0, math.inf], [1.0, math.inf], 0.0),
        ([1.0, HUGE], [1.0, HUGE], 0.0),
        ({"a": math.nan}, {"a": math.nan}, 0.0),
        # Scores by their key
        (scores(("a", 0.9), ("b", 0.1)), scores(("b", 0.1), ("a", 0.9)), 1.0),
        (scores(("a", 0.6), ("b", 0.8)), scores(("a", 1.0), ("c", 0.0)), 0.6),
        (scores(("a", 1.0), ("b", 0.0)), scores(("c", 1.0), ("d", 0.0)), 0.0),
        (scores(("a", 1.0)), scores(("a", 0.5), ("b", 0.5)), 0.0),
        ([{"index": 0, "score": 1}], [{"index": 0, "score": 0.5}], 0.5),
        ([{"index": 0, "score": 1}], [{"label": 0, "score": 1}], 0.0),
        ([scores(("a", 3), ("b", 4))], [scores(("b", 4), ("a", 3))], 1.0),
        # Else in order: keys that are there twice, items with more in them
        (scores(("a", 1), ("a", 0)), scores(("a", 0), ("a", 1)), 0.0),
        ([{"label": "a", "score": 3, "x": 4}], [{"label": "a", "score": 3, "x": 4}], 1.0),
        # Anything else
        ({"a": [1, 0], "b": "x"}, {"b": "x", "a": [0.6, 0.8]}, 0.6),
        ({"a": [1, 0], "b": "x"}, {"a": [1, 0], "b": "y"}, 0.0),
        ({"a": [1, 0], "b": "x"}, {"a": [1, 0]}, 0.0),
        ({"a": [0, 0]}, {"a": [0, 0]}, 1.0),
        ("text", "text", 1.0),
        ("text", "another", 0.0),
        (None, None, 1.0),
        ([], [], 1.0),
        (True, 1, 0.0),
        ([[1, 0], [0, 0]], numpy.array([[0.6, 0.8], [0, 0]]), 0.6),
        # One number
        (0.2, 0.1, 0.5),
        ([0.1], [0.2], 0.5),
        ({"score": -4}, {"score": -4}, 1.0),
        (0.1, -0.1, 0.0),
        (0.0, 0.0, 1.0),
        (0.0, 0.1, 0.0),
    ],
)
def test_how_alike_two_answers_are(expected: Any, found: Any, alike: float) -> None:
    assert similarity(expected, found) == pytest.approx(alike)
    assert similarity(found, expected) == pytest.approx(alike)


def test_equal_vectors_are_exactly_alike() -> None:
    for seed in range(20):
        vector = numpy.random.default_rng(seed).normal(size=384).astype(numpy.float32)
        assert similarity(vector, vector.tolist()) == 1.0


def test_the_vectors_of_tokens_are_compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker does this between two batches."""
    normal = numpy.random.default_rng(1).normal(size=(3, 4))
    expected, found = normal.astype(numpy.float32).tolist(), normal.astype(numpy.float32)
    other = found + numpy.float32(0.5)
    wanted = similarity(expected, other.tolist())
    assert 0 < wanted < 1
    # What has another form is still taken apart.
    assert similarity(expected, found.reshape(4, 3)) == 0.0
    assert similarity([*expected[:2], [1.0]], found) == 0.0
    assert similarity([*expected[:2], ["1", "2", "3", "4"]], found) == 0.0
    monkeypatch.setattr(comparing, "_taken_apart", None)
    assert similarity(expected, found) == 1.0
    assert similarity(expected, other) == pytest.approx(wanted)
    assert similarity(expected, numpy.zeros_like(found)) == 0.0
    zeros = numpy.zeros((2, 2), numpy.float32)
    assert similarity(zeros.tolist(), zeros) == 1.0
    assert similarity(expected, numpy.full_like(found, numpy.nan)) == 0.0


@pytest.mark.parametrize(
    ("similarity", "expected"),
    [
        (-1.0, "<0.5"),
        (0.0, "<0.5"),
        (0.5, "0.5"),
        (0.8999, "0.5"),
        (0.9, "0.9"),
        (0.95, "0.95"),
        (0.9949, "0.99"),
        (0.995, "0.995"),
        (0.9989, "0.995"),
        (0.999, "0.999"),
        (0.99995, "0.9999"),
        (1.0, "1"),
    ],
)
def test_a_likeness_falls_into_its_range(similarity: float, expected: str) -> None:
    likeness = Likeness()
    likeness.add(similarity)
    assert likeness.to_json()["counts"] == {expected: 1}
    assert (likeness.count, likeness.mean, likeness.least) == (1, similarity, similarity)


def test_an_empty_likeness_says_so() -> None:
    empty = Likeness()
    empty.merge(Likeness())
    assert (empty.count, empty.mean, empty.least, empty.shares()) == (0, None, None, {})
    assert Likeness(empty.to_json()).to_json() == empty.to_json()


def test_likenesses_are_kept_as_json_and_add_up() -> None:
    several = [1.0, 0.9999, 0.5, 1.0, -0.2, 0.93]
    whole, parts = Likeness(), [Likeness(), Likeness()]
    for number, one in enumerate(several):
        whole.add(one)
        parts[number % 2].add(one)
    merged = Likeness(json.loads(json.dumps(parts[0].to_json())))
    merged.merge(Likeness(json.loads(json.dumps(parts[1].to_json()))))
    assert merged.to_json() == {**whole.to_json(), "total": pytest.approx(whole.total)}
    assert merged.count == 6
    assert merged.mean == pytest.approx(sum(several) / 6)
    assert merged.least == -0.2
    assert list(merged.shares()) == list(RANGES)
    assert merged.shares()["1"] == pytest.approx(2 / 6)
    assert sum(merged.shares().values()) == pytest.approx(1)

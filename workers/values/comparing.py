"""How alike two answers are: to golden answers when a version is checked, and in shadow traffic.

An answer is what JSON can say: objects, arrays, strings, numbers, booleans, null. Arrays and
numbers of numpy count as such.
"""

import json
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

import numpy
from numpy.typing import NDArray

Numbers = NDArray[numpy.float64]  # shape (count,)
Place = tuple[Hashable, ...]  # the keys and indexes that lead there

SCORED = ({"label", "score"}, {"index", "score"})  # items of a list whose order says nothing
SHOWN = 60  # characters of a value in a message
# What matters lies near 1: another number format costs 0.001, another model more than 0.1.
EDGES = (0.5, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 1.0)
RANGES = (f"<{EDGES[0]}", *(f"{edge:g}" for edge in EDGES))


def difference(expected: Any, found: Any, tolerance: float) -> str:
    """Empty if they are equal, each number within `tolerance`; else where they first differ.

    For example `[3].score: 0.91 instead of 0.95, more than 0.01 apart`. NaN and the infinities
    equal nothing, not even themselves.
    """
    return next(_differences("", expected, found, tolerance), "")


def _differences(place: str, expected: Any, found: Any, tolerance: float) -> Iterator[str]:
    expected, found = _plain(expected), _plain(found)
    kind, other = _kind(expected), _kind(found)
    where = f"{place}: " if place else ""
    if kind != other:
        yield f"{where}{other} instead of {kind}"
    elif kind == "a number":
        told = f"{where}{_shown(found)} instead of {_shown(expected)}"
        if not (_finite(expected) and _finite(found)):
            yield f"{told}, and only finite numbers can be equal"
        elif abs(expected - found) > tolerance:
            yield f"{told}, more than {tolerance} apart"
    elif kind == "an array":
        if len(expected) != len(found):
            yield f"{where}{len(found)} items instead of {len(expected)}"
        for number, pair in enumerate(zip(expected, found, strict=False)):
            yield from _differences(f"{place}[{number}]", *pair, tolerance)
    elif kind == "an object":
        for key in [*expected, *(key for key in found if key not in expected)]:
            inner = f"{place}.{key}" if str(key).isidentifier() else f"{place}[{_shown(key)}]"
            if key not in found:
                yield f"{inner}: is missing"
            elif key not in expected:
                yield f"{inner}: isn't expected"
            else:
                yield from _differences(inner, expected[key], found[key], tolerance)
    elif expected != found:
        yield f"{where}{_shown(found)} instead of {_shown(expected)}"


def similarity(expected: Any, found: Any) -> float:
    """From -1 to 1; 1.0 for alike.

    - Two vectors of numbers: their cosine. 0.0 if they differ in length, and if either has no
      direction: all zeros, or a number that isn't finite.
    - Anything else: 1.0 if all is equal. 0.0 if anything but numbers differs: kinds, keys, lengths,
      strings. Else the cosine of all the numbers in it, in the order of their places.
    - Lists of {"label" or "index": key, "score": number}, wherever they stand: a score's place is
      its key, whatever the order. A key that is in one of two lists of equal length, but not
      in the other, scores 0 there.
    - One number against one, whose cosine would say nothing but the sign: the smaller divided by
      the larger, 0.5 for 0.1 and 0.2; 0.0 if the signs differ.
    """
    if (pair := _matrices(expected, found)) is not None:
        return _cosine(*pair) if (pair[0] != pair[1]).any() else 1.0
    left, right = _vector(expected), _vector(found)
    if left is not None and right is not None:
        return _cosine(left, right)
    (structure, numbers), (other, others) = _taken_apart(expected), _taken_apart(found)
    if structure != other:
        return 0.0
    places = dict.fromkeys([*numbers, *others])
    left = _numbers(numbers.get(place, 0.0) for place in places)
    right = _numbers(others.get(place, 0.0) for place in places)
    if (left == right).all():  # also without any; never with NaN
        return 1.0
    return _cosine(left, right)


def sparse_difference(expected: Any, found: Any, tolerance: float) -> str:
    """As `difference`, of lists of {"index", "value"}; an index that is missing has the value 0."""
    try:
        left, right = _weights(expected), _weights(found)
    except (TypeError, KeyError, ValueError):
        return difference(expected, found, tolerance)  # says where the form differs
    for index in sorted(left.keys() | right.keys()):
        one, other = left.get(index, 0.0), right.get(index, 0.0)
        if not abs(one - other) <= tolerance:
            return f"index {index}: {other} instead of {one}, more than {tolerance} apart"
    return ""


def sparse_similarity(expected: Any, found: Any) -> float:
    """The cosine of two lists of {"index", "value"}; an index that is missing has the value 0. 1.0
    for two empty lists. Other answers of the kind, such as a text's tokens: as `similarity`."""
    try:
        left, right = _weights(expected), _weights(found)
    except (TypeError, KeyError, ValueError):
        return similarity(expected, found)
    if left == right:
        return 1.0
    places = left.keys() | right.keys()
    return _cosine(
        _numbers(left.get(place, 0.0) for place in places),
        _numbers(right.get(place, 0.0) for place in places),
    )


def _weights(answer: Any) -> dict[int, float]:
    """Raises TypeError, KeyError and ValueError for another form."""
    return {int(one["index"]): float(one["value"]) for one in answer}


def _cosine(left: Numbers, right: Numbers) -> float:
    """Or what `similarity` says of vectors that have none."""
    if left.shape != right.shape or not numpy.isfinite([left, right]).all():
        return 0.0
    largest = abs(left).max(), abs(right).max()
    if not all(largest):
        return 0.0
    if (left == right).all():
        return 1.0  # the arithmetic below may miss it by a bit
    if left.size == 1:
        return float(min(largest) / max(largest)) if left[0] * right[0] > 0 else 0.0
    left, right = left / largest[0], right / largest[1]  # so that no square is too large
    cosine = left @ right / numpy.sqrt((left @ left) * (right @ right))
    return float(numpy.clip(cosine, -1.0, 1.0))


def _matrices(expected: Any, found: Any) -> tuple[Numbers, Numbers] | None:
    """The numbers of an array with several dimensions, and of what is expected, if it has the same
    shape. Taking apart 256 vectors of 384 numbers, number by number, took 0.23 s."""
    if not isinstance(found, numpy.ndarray) or found.ndim < 2 or not found.size:
        return None
    try:
        wanted = numpy.array(expected)
    except ValueError:  # its rows differ in length
        return None
    if wanted.shape != found.shape or {wanted.dtype.kind, found.dtype.kind} - set("fiu"):
        return None
    return wanted.ravel().astype(numpy.float64), found.ravel().astype(numpy.float64)


def _vector(value: Any) -> Numbers | None:
    """None for anything but a list of numbers, and at least one."""
    value = _plain(value)
    if not isinstance(value, list | tuple) or not value:
        return None
    return _numbers(value) if all(_kind(item) == "a number" for item in value) else None


def _numbers(values: Iterable[Any]) -> Numbers:
    """NaN for all that aren't finite: an integer may be too large for a float."""
    return numpy.array([value if _finite(value) else numpy.nan for value in values], numpy.float64)


def _taken_apart(answer: Any) -> tuple[dict[Place, Any], dict[Place, Any]]:
    """By place: what has to be the same in both answers, and the numbers."""
    structure: dict[Place, Any] = {}
    numbers: dict[Place, Any] = {}

    def take(place: Place, value: Any) -> None:
        value = _plain(value)
        kind = _kind(value)
        if kind == "a number":
            structure[place] = kind
            numbers[place] = value
        elif kind == "an object":
            structure[place] = kind, value.keys()
            for key, inner in value.items():
                take((*place, key), inner)
        elif kind == "an array" and (scores := _scores(value)):
            structure[place] = "scores", len(scores)
            numbers.update({(*place, *key): score for key, score in scores.items()})
        elif kind == "an array":
            structure[place] = kind, len(value)
            for number, inner in enumerate(value):
                take((*place, number), inner)
        else:
            structure[place] = kind, value

    take((), answer)
    return structure, numbers


def _scores(items: Iterable[Any]) -> dict[Place, Any]:
    """By key; empty if these aren't scores with a key each."""
    found: dict[Place, Any] = {}
    for item in items:
        if not isinstance(item, dict) or item.keys() not in SCORED:
            return {}
        [name] = item.keys() - {"score"}
        key, score = (name, _plain(item[name])), _plain(item["score"])
        if not isinstance(key[1], str | int) or key in found or _kind(score) != "a number":
            return {}
        found[key] = score
    return found


def _plain(value: Any) -> Any:
    """What Python has for an array or a number of numpy's."""
    return value.tolist() if isinstance(value, numpy.ndarray | numpy.generic) else value


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list() | tuple():
            return "an array"
        case dict():
            return "an object"
    return type(value).__name__


def _finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer larger than any float
        return False


def _shown(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False, default=repr)
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"


class Likeness:
    """Counts of similarities by range, with their sum and the least; several Likenesses add up."""

    def __init__(self, kept: Mapping[str, Any] | None = None) -> None:
        """`kept`: as `to_json` gives it."""
        kept = kept or {}
        # The range's lower edge, as RANGES has it: how many similarities were from there to the
        # next. Similarities of exactly 1 have their own range.
        self.counts: Counter[str] = Counter(kept.get("counts", {}))
        self.total: float = kept.get("total", 0.0)
        self.least: float | None = kept.get("least")  # None when empty

    @property
    def count(self) -> int:
        """Number of similarities."""
        return self.counts.total()

    @property
    def mean(self) -> float | None:
        """From -1 to 1; None when empty."""
        return self.total / self.count if self.count else None

    def add(self, similarity: float) -> None:
        """Count one similarity, from -1 to 1."""
        self.counts[RANGES[bisect_right(EDGES, similarity)]] += 1
        self.total += similarity
        self.least = similarity if self.least is None else min(self.least, similarity)

    def merge(self, other: "Likeness") -> None:
        """Add the other's counts to these."""
        self.counts.update(other.counts)
        self.total += other.total
        self.least = min((it.least for it in (self, other) if it.least is not None), default=None)

    def shares(self) -> dict[str, float]:
        """The share (0 to 1) of each range, from the least alike up; empty when empty."""
        counts, count = dict(self.counts), self.count
        return {name: counts.get(name, 0) / count for name in RANGES} if count else {}

    def to_json(self) -> dict[str, Any]:
        """What `__init__` takes back. Any thread may call it."""
        # Copied in one step: another thread may be adding.
        counts = dict(self.counts)
        counts = {name: counts[name] for name in RANGES if name in counts}
        return {"counts": counts, "total": self.total, "least": self.least}

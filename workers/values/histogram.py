"""A mergeable histogram of durations with a bounded relative error.

Buckets grow by a constant factor, so that any quantile is known to ±2.5 %, and two histograms are
merged by adding their counts: DDSketch, Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable
quantile sketch with relative-error guarantees", VLDB 2019.
"""

import math
from collections import Counter
from collections.abc import Mapping

RELATIVE_ERROR = 0.025
GROWTH = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
SHORTEST = 1e-6  # seconds; anything shorter counts as this


class Histogram:
    """Counts of durations in seconds, with their sum."""

    def __init__(self, buckets: Mapping[str, int] | None = None, total: float = 0.0) -> None:
        """`buckets`: bucket number (a string, as JSON keeps it) to count; `total`: seconds."""
        self.buckets: Counter[int] = Counter({int(k): n for k, n in (buckets or {}).items()})
        self.total = total

    @property
    def count(self) -> int:
        """Number of durations."""
        return self.buckets.total()

    @property
    def mean(self) -> float | None:
        """Seconds; None when empty."""
        return self.total / self.count if self.count else None

    def add(self, seconds: float) -> None:
        """Count one duration, in seconds."""
        seconds = max(seconds, SHORTEST)
        self.buckets[math.ceil(math.log(seconds, GROWTH))] += 1
        self.total += seconds

    def merge(self, other: "Histogram") -> None:
        """Add the other's durations to these."""
        self.buckets.update(other.buckets)
        self.total += other.total

    def quantile(self, share: float) -> float | None:
        """Seconds that `share` (0 to 1) of all durations stay at or under; None when empty."""
        if not self.count:
            return None
        rank = share * self.count
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= rank:
                break
        return 2 * GROWTH**bucket / (GROWTH + 1)

    def to_json(self) -> dict[str, int]:
        """Bucket number, as a string, to count; `__init__` takes it back."""
        return {str(bucket): n for bucket, n in sorted(self.buckets.items())}

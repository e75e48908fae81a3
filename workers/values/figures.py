"""What batches a worker has run: how many texts each had, and how much was padding."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any


class BatchFigures:
    """Counts since the worker's start; the counts of several workers add up."""

    def __init__(self, kept: Mapping[str, Any] | None = None) -> None:
        """`kept`: as `to_json` gives it."""
        kept = kept or {}
        # Texts in a batch: how many batches had that many.
        self.sizes: Counter[int] = Counter(
            {int(size): count for size, count in kept.get("sizes", {}).items()}
        )
        self.tokens: int = kept.get("tokens", 0)
        self.padded: int = kept.get("padded", 0)

    @classmethod
    def sum(cls, several: Iterable[Mapping[str, Any]]) -> "BatchFigures":
        """Of several, each as `to_json` gives it."""
        total = cls()
        for kept in several:
            other = cls(kept)
            total.sizes += other.sizes
            total.tokens += other.tokens
            total.padded += other.padded
        return total

    def add(self, tokens: list[int]) -> None:
        """A batch of texts with `tokens` tokens each, padded to the longest."""
        self.sizes[len(tokens)] += 1
        self.tokens += sum(tokens)
        self.padded += max(tokens) * len(tokens)

    @property
    def count(self) -> int:
        """Number of batches."""
        return self.sizes.total()

    @property
    def mean_size(self) -> float | None:
        """Texts; None before the first batch."""
        texts = sum(size * count for size, count in self.sizes.items())
        return texts / self.count if self.count else None

    @property
    def padding(self) -> float | None:
        """The share (0 to 1) of what the model computed that was padding; None before the first."""
        return 1 - self.tokens / self.padded if self.padded else None

    def to_json(self) -> dict[str, Any]:
        """What `__init__` takes back."""
        return {"sizes": self._sizes(), "tokens": self.tokens, "padded": self.padded}

    def for_people(self) -> dict[str, Any]:
        """As /stat shows it."""
        return {
            "count": self.count,
            "mean_size": self.mean_size,
            "sizes": self._sizes(),
            "padding": self.padding,
        }

    def ranges(self) -> dict[str, int]:
        """Batches by size, each range twice as wide as the one before: 1, 2, 3-4, 5-8, …"""
        found: Counter[int] = Counter()
        for size, count in self.sizes.items():
            found[(size - 1).bit_length()] += count
        return {_range(power): found[power] for power in range(max(found, default=-1) + 1)}

    def _sizes(self) -> dict[str, int]:
        # Copied in one step: another thread may be adding.
        return {str(size): count for size, count in sorted(dict(self.sizes).items())}


def _range(power: int) -> str:
    first, last = 2**power // 2 + 1, 2**power
    return str(last) if power < 2 else f"{first}-{last}"

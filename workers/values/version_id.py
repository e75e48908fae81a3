"""Which version of which model: the type behind "name@version"."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class VersionId:
    """A model's name and one of its versions; hashable, sorted by model and then by version.

    >>> VersionId.parse("sentiment@2")
    VersionId(model='sentiment', version='2')
    >>> f"{VersionId('sentiment', '2')}"
    'sentiment@2'
    """

    model: str
    version: str

    @classmethod
    def parse(cls, label: str) -> "VersionId":
        """Of "name@version". A version has no @, so the last one divides. Raises ValueError."""
        model, _, version = label.rpartition("@")
        if not model or not version:
            raise ValueError(f"{label!r} isn't NAME@VERSION")
        return cls(model, version)

    @property
    def label(self) -> str:
        """ "name@version": as in headers, in /stat, and the name of its queue."""
        return f"{self.model}@{self.version}"

    def __str__(self) -> str:
        return self.label

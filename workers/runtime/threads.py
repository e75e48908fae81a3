"""How many threads this worker's models compute with."""

from django.conf import settings

from workers.host import machine


class Threads:
    """VELO_THREADS, or this worker's share of the cores that it may use."""

    def __init__(self) -> None:
        self._count: int = settings.VELO_THREADS or machine.threads(1)

    @property
    def count(self) -> int:
        """Threads that a model in this worker computes with."""
        return self._count

    def share_with(self, workers: int) -> None:
        """`workers` run on the same cores, including this worker."""
        if not settings.VELO_THREADS:
            self._count = machine.threads(workers)

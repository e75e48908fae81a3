"""Which inputs of a request share a job: a job has a cost of its own, whatever it holds."""

from collections.abc import Collection, Sequence
from typing import Any

from django.conf import settings

AT_MOST = 16  # inputs of a job: a request takes its turn among other requests in such steps
LENGTH = 8_000  # characters of the inputs of a job, unless a single input has more
SHARES = 2  # jobs for each worker: it prepares the second while it computes the first


def bundles(inputs: Sequence[Any], workers: int, alone: Collection[int] = ()) -> list[list[int]]:
    """The positions in `inputs` that each job gets, every position once. Texts of about the same
    length come next to each other, so that the workers' batches have little padding. An input that
    isn't a text gets a job of its own: it may be many texts.

    `workers`: how many are alive, each of which is to have its share of the jobs. `alone`:
    positions that get a job of their own. A job has no more inputs than a batch (VELO_BATCH_MAX).
    """
    share = len(inputs) // (SHARES * max(1, workers))
    most = max(1, min(AT_MOST, settings.VELO_BATCH_MAX, share))
    found: list[list[int]] = []
    length, open_ = 0, False  # of the last job; whether it may get more
    for position in sorted(range(len(inputs)), key=lambda place: _length(inputs[place])):
        own = _length(inputs[position])
        length += own
        is_alone = position in alone or not isinstance(inputs[position], str)
        if open_ and not is_alone and len(found[-1]) < most and length <= LENGTH:
            found[-1].append(position)
        else:
            found.append([position])
            length, open_ = own, not is_alone
    return found


def _length(given: Any) -> int:
    return len(given) if isinstance(given, str) else 0

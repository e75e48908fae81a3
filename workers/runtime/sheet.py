"""The answers to the inputs of one job, until each input has one."""

from collections.abc import Mapping
from typing import Any

from workers.broker import wire


class AnswerSheet:
    """Of a job with several inputs, which one window has whole and several model calls answer."""

    def __init__(self, inputs: int) -> None:
        self._answers: dict[int, Mapping[str, Any]] = {}
        self._left = inputs
        self._failed = False
        self.is_over = False  # nothing more is written for its job

    def fill(self, place: int, answer: Mapping[str, Any] | None) -> None:
        """The answer to the input at this place; None if it failed."""
        self._left -= 1
        if answer is None:
            self._failed = True
        else:
            self._answers[place] = answer

    @property
    def is_complete(self) -> bool:
        """Whether each input has been answered or has failed."""
        return self._left == 0

    @property
    def inputs_answered(self) -> int:
        """By the job's answer: none where an input failed, since then each is asked again."""
        return 0 if self._failed else len(self._answers)

    @property
    def tokens(self) -> int | None:
        """Of the inputs that its job answers; None where it answers none."""
        return None if self._failed else sum(one["tokens"] for one in self._answers.values())

    def value(self) -> dict[str, Any]:
        """What the job returns; see wire.py."""
        if self._failed:
            return wire.apart(crashes=0)
        return wire.together([self._answers[place] for place in sorted(self._answers)])

"""A window: jobs that a worker claimed together, sorted out by the models that answer them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workers.broker.claims import Claim, Question
from workers.predictors import Encoded
from workers.runtime.runner import Raised, Runner
from workers.runtime.sheet import AnswerSheet


@dataclass(frozen=True)
class Part:
    """Questions for one model, each with its tokens or with what encoding it has raised."""

    runner: Runner
    questions: Sequence[Question]
    encoded: Sequence[Encoded | Raised]
    sheets: Mapping[str, AnswerSheet]  # by job id, of the jobs with several inputs

    @classmethod
    def of(
        cls, runner: Runner, questions: Sequence[Question], encoded: Sequence[Encoded | Raised]
    ) -> "Part":
        """With empty sheets."""
        counts = Counter(one.claim.job_id for one in questions)
        several = {one.claim.job_id for one in questions if one.claim.inputs > 1}
        sheets = {job_id: AnswerSheet(counts[job_id]) for job_id in several}
        return cls(runner, questions, encoded, sheets)

    def is_over(self, index: int) -> bool:
        """Whether this question's job got its end already, by another question of it."""
        sheet = self.sheets.get(self.questions[index].claim.job_id)
        return sheet is not None and sheet.is_over

    def end(self, questions: Sequence[Question]) -> None:
        """Nothing more is written for the jobs of these questions."""
        for question in questions:
            if sheet := self.sheets.get(question.claim.job_id):
                sheet.is_over = True


@dataclass(frozen=True)
class Window:
    """Claimed jobs, sorted out."""

    parts: Sequence[Part]
    others: Sequence[Claim]  # not for a model: RQ runs them
    taken_up: float  # when, by Redis's clock

    @property
    def readable(self) -> int:
        """Inputs that a model will compute."""
        return sum(
            isinstance(one, Encoded) and one.answer is None
            for part in self.parts
            for one in part.encoded
        )

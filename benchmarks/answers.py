"""The answers that locust's users get while a model's versions are swapped."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType

from tests.stack import ROOT, Stack
from tests.waiting import eventually

TOLERANCE = 1e-5  # of a component; batches of another composition cost 1e-7 or so in fp32
FAR = 100 * TOLERANCE  # and no reference of another version is as near as that


@dataclass(frozen=True)
class Answer:
    """One request, and what came back."""

    began: float  # by time.monotonic, which all processes here share
    seconds: float
    answered: bool  # with 200
    label: str  # of the version in the header; of a failure: status and body
    own: float | None  # greatest difference to the reference of that version
    other: float | None  # and to the nearest one of another version

    @property
    def right(self) -> bool:
        """It is exactly what the version in its header says, and nothing of another one."""
        near = self.own is not None and self.own <= TOLERANCE
        return self.answered and near and (self.other is None or self.other > FAR)


class Callers:
    """While this context lasts, so many users of locust ask; whoever waits at its end is waited
    for."""

    def __init__(self, velo: Stack, users: int, references: Path) -> None:
        self._out = velo.folder / "answers.jsonl"
        self._out.touch()
        self._read = 0  # bytes of whole lines
        self._answers: list[Answer] = []
        with (velo.folder / "locust.log").open("w") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "locust", "--headless", "--only-summary"),
                    *("--locustfile", "benchmarks/comparers.py", "--host", velo.base),
                    *("--users", str(users), "--spawn-rate", str(users), "--stop-timeout", "60"),
                ],
                cwd=ROOT,
                env=os.environ
                | {"VELO_REFERENCES": str(references), "VELO_ANSWERS": str(self._out)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> "Callers":
        eventually(lambda: len(self.answers()) > 0, seconds=60)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait(90)

    def answers(self) -> list[Answer]:
        """All so far, in the order in which they came."""
        with self._out.open("rb") as lines:
            lines.seek(self._read)
            for line in lines:
                if line.endswith(b"\n"):
                    self._read += len(line)
                    self._answers.append(Answer(*json.loads(line)))
        return self._answers


def between(answers: Sequence[Answer], began: float, ended: float) -> list[Answer]:
    """To the requests of that time."""
    return [one for one in answers if began <= one.began < ended]


def p95(answers: Sequence[Answer]) -> float:
    """Seconds; NaN without answers."""
    times = sorted(one.seconds for one in answers)
    return times[int(0.95 * len(times))] if times else float("nan")


def by_version(answers: Sequence[Answer]) -> Counter[str]:
    return Counter(one.label for one in answers if one.answered)


def bad(answers: Sequence[Answer]) -> tuple[int, int]:
    """How many failed, and how many answers were wrong."""
    failed = sum(not one.answered for one in answers)
    return failed, sum(not one.right for one in answers) - failed


def exactness(answers: Sequence[Answer]) -> str:
    """How the answers were compared, and how near they were."""
    own = max((one.own for one in answers if one.own is not None), default=float("nan"))
    other = min((one.other for one in answers if one.other is not None), default=float("nan"))
    return (
        f"An answer counts as wrong unless each component is within {TOLERANCE:g} of the reference "
        f"of the version in its header, and some component is more than {FAR:g} from every other "
        f"version's. Of {len(answers):,} requests the farthest answer was {own:.1g} from its own "
        f"reference, the nearest {other:.1g} from another version's."
    )


def examples(answers: Sequence[Answer], most: int = 5) -> list[Answer]:
    """Some that failed or are wrong."""
    return list(islice((one for one in answers if not one.right), most))

"""Builds a worker of its parts: the one place that knows which part is given which."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from redis import Redis

from workers.broker.claims import Claim
from workers.broker.names import is_version
from workers.host.watchdog import Watchdog
from workers.metrics.latency import Recorder
from workers.models import Worker
from workers.runtime.answers import Answers, Outcomes
from workers.runtime.batch_loop import BatchLoop
from workers.runtime.fleet import Fleet
from workers.runtime.intake import Intake
from workers.runtime.lease import Lease, Registry
from workers.runtime.life import Life
from workers.runtime.row import Row
from workers.runtime.threads import Threads


class Glue(Registry, Outcomes, Protocol):
    """What RQ's worker does for the parts."""

    def run_stock(self, claim: Claim) -> bool:
        """Run a job in RQ's own way; whether it succeeded."""


@dataclass(frozen=True)
class Parts:
    """What a worker is made of; docs/how-it-works.md shows the whole."""

    intake: Intake
    lease: Lease
    answers: Answers
    fleet: Fleet
    loop: BatchLoop
    row: Row
    threads: Threads
    life: Life

    def stop(self) -> None:
        """Take nothing more; what is in hand is finished."""
        self.loop.stop()
        self.intake.stop()

    def close(self) -> None:
        """End the threads of the parts."""
        self.loop.close()
        self.answers.close()


def assemble(
    glue: Glue,
    name: str,
    redis: Redis,
    told: Sequence[str],
    *,
    state: Callable[[], Worker.State],
    default_ttl: int,
) -> Parts:
    """`told`: the names of queues on the command line; `default_ttl`: seconds that an answer is
    kept whose job doesn't say."""
    threads, recorder, watchdog = Threads(), Recorder(), Watchdog(name)
    lease = Lease(name, [each for each in told if not is_version(each)], glue)
    intake = Intake(redis, name, lambda: lease.queues)
    answers = Answers(redis, name, intake, glue)
    fleet = Fleet(
        name,
        [each for each in told if is_version(each)],
        lease=lease,
        rounds=lambda: intake.rounds,
        recorder=recorder,
        threads=threads,
    )
    loop = BatchLoop(
        redis,
        name,
        intake=intake,
        answers=answers,
        runners=fleet,
        threads=threads,
        watchdog=watchdog,
        run_stock=glue.run_stock,
        default_ttl=default_ttl,
    )
    row = Row(name, state=state, lease=lease, fleet=fleet, answers=answers, threads=threads)
    life = Life(
        name,
        told,
        intake=intake,
        lease=lease,
        fleet=fleet,
        row=row,
        recorder=recorder,
        watchdog=watchdog,
    )
    return Parts(intake, lease, answers, fleet, loop, row, threads, life)

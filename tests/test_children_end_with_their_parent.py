"""`die_with_parent`: no process is left behind by one that was killed outright."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.stack import ROOT
from tests.waiting import eventually

CHILD = """
import os, pathlib, sys, time
from workers.host.parent import die_with_parent
parent = int(sys.argv[1])
{before}
die_with_parent(parent)
pathlib.Path(sys.argv[2]).touch()
time.sleep(60)
"""
PARENT = """
import os, subprocess, sys, time
command = [sys.executable, "-c", sys.argv[1], str(os.getpid()), sys.argv[2]]
print(subprocess.Popen(command).pid, flush=True)
time.sleep(float(sys.argv[3]))
"""


@contextmanager
def family(there: Path, life: float, before: str = "") -> Iterator[tuple[subprocess.Popen, int]]:
    """A process that lives for `life` seconds, and the id of its child, which runs `before`, asks
    to die with its parent, and then makes the file `there`. Until the first has ended."""
    words = [CHILD.format(before=before), str(there), str(life)]
    command = [sys.executable, "-c", PARENT, *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        yield parent, int(parent.stdout.readline())


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (ProcessLookupError, FileNotFoundError):
        return True


def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    there = tmp_path / "asked"
    with family(there, life=60) as (parent, child):
        eventually(there.exists)
        assert not is_gone(child)
        parent.send_signal(signal.SIGKILL)
    eventually(lambda: is_gone(child))


def test_a_child_whose_parent_is_gone_already_ends_at_once(tmp_path: Path) -> None:
    there = tmp_path / "asked"
    orphaned = "while os.getppid() == parent: time.sleep(0.01)"
    with family(there, life=0, before=orphaned) as (_, child):
        pass
    eventually(lambda: is_gone(child))
    assert not there.exists()

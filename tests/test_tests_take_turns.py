"""A test that is marked `serial` runs alone; those that aren't run at the same time."""

import fcntl
import threading
from pathlib import Path

from tests.turns import turn
from tests.waiting import eventually


class Test:
    """One that runs in a thread, as if in another process, until it may end."""

    __test__ = False

    def __init__(self, shared: Path, alone: bool) -> None:
        self.runs, self.may_end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(shared, alone))
        self._thread.start()

    def _run(self, shared: Path, alone: bool) -> None:
        with turn(shared, alone):
            self.runs.set()
            assert self.may_end.wait(60)

    def end(self) -> None:
        self.may_end.set()
        self._thread.join()


def test_what_is_serial_waits_for_all_others_and_they_wait_for_it(tmp_path: Path) -> None:
    first, second = Test(tmp_path, alone=False), Test(tmp_path, alone=False)
    eventually(lambda: first.runs.is_set() and second.runs.is_set())
    serial = Test(tmp_path, alone=True)
    eventually(lambda: _locked(tmp_path / "door"))
    late = Test(tmp_path, alone=False)  # it would keep the serial one waiting
    first.end()
    assert not serial.runs.wait(0.1)
    second.end()
    assert serial.runs.wait(60)
    assert not late.runs.wait(0.1)
    serial.end()
    assert late.runs.wait(60)
    late.end()


def _locked(path: Path) -> bool:
    """Whether the serial one holds the door by now."""

    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False

"""Repairs Valkey's append-only files, so that it starts although they are damaged."""

import math
import re
import shutil
import subprocess  # nosec B404 # valkey's own check
import time
from collections.abc import Sequence
from pathlib import Path

# What Valkey says before it ends because of what is in these files; not what it says of a full
# disk or of files that it may not read, which nothing here could repair.
DAMAGED = re.compile(
    r"(Bad file format|Unexpected end of file) reading the append only file"
    r"|AOF MANIFEST FILE ERROR|AOF loading aborted|RDB file reading failure"
    r"|AOF file .*No such file or directory"
)
LAST_WRITTEN = re.compile(r"appendonly\.aof\.\d+\.incr\.aof")
CHECK_AT_MOST = 60.0  # seconds
SOON = 60.0  # seconds in which Valkey finds what was cut off to be damaged still


class Mending:
    """Keeps what can be read of the files; where Valkey still can't start with that, nothing of
    them. The damaged files are set aside, never deleted.

    `folder` is Valkey's appendonlydir, `binary` valkey-server.
    """

    def __init__(self, folder: Path, binary: Path) -> None:
        self._folder = folder
        self._binary = binary
        self._cut = -math.inf  # when, by the monotonic clock

    def __call__(self, lines: Sequence[str]) -> str | None:
        """What was done, as a sentence; None if Valkey, whose last lines these are, ended for some
        other reason. Raises OSError."""
        if not any(DAMAGED.search(line) for line in lines) or not self._folder.exists():
            return None
        aside = self._aside()
        if time.monotonic() - self._cut > SOON:
            self._cut = time.monotonic()
            shutil.copytree(self._folder, aside)
            if kept := self._cut_off():
                return (
                    f"the queue's append-only file is damaged; what it holds before the damage, "
                    f"{kept}, is kept. The damaged files are in {aside}."
                )
            shutil.rmtree(self._folder)
        else:
            self._folder.rename(aside)
        return (
            "the queue's append-only file is damaged: the queue begins empty. Damaged files "
            f"are in {aside}."
        )

    def _aside(self) -> Path:
        now = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        names = (f"{self._folder.name}.broken-{now}{suffix}" for suffix in ("", "-2", "-3"))
        return next(path for name in names if not (path := self._folder.with_name(name)).exists())

    def _cut_off(self) -> str | None:
        """End the last file before the damage, if that is where it is; what is kept, as words."""
        files = sorted(
            (path for path in self._folder.iterdir() if LAST_WRITTEN.fullmatch(path.name)),
            key=lambda path: int(path.name.split(".")[2]),
        )
        if not files:
            return None
        before = files[-1].stat().st_size
        # The server is the checking program too, under another name. It checks this file alone: the
        # base file, in Valkey's own format, it takes for damaged (9.1).
        command = ["valkey-check-aof", "--fix", str(files[-1])]
        try:
            ended = subprocess.run(  # nosec B603
                command,
                executable=self._binary,
                input=b"y\n",
                capture_output=True,
                timeout=CHECK_AT_MOST,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None
        after = files[-1].stat().st_size
        return f"{after} of {before} bytes" if ended.returncode == 0 and after < before else None

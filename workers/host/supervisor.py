"""Keeps a few processes running on one machine, and ends them together."""

import asyncio
import logging
import os
import signal
import time
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from workers.host.parent import die_with_parent

log = logging.getLogger(__name__)

LOOK = 0.1  # seconds between two looks whether a process has ended
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds before a process that ended is started again
STEADY = 10.0  # seconds of life after which the next pause is the first one again
LONGEST_LINE = 1024 * 1024  # bytes; a longer line is printed in pieces


@dataclass(frozen=True)
class Program:
    name: str
    command: tuple[str, ...]
    grace: float  # seconds it gets to end after SIGTERM


class Supervisor:
    """Runs programs, restarts those that end, and prefixes what they print with their names.

    `bury` is called, in a thread, when one has ended though nobody stopped it.
    """

    def __init__(
        self, say: Callable[[str], None], width: int, bury: Callable[[], object] = lambda: None
    ) -> None:
        self._say = say
        self._width = width
        self._bury = bury
        self._stopping = asyncio.Event()
        self._processes: dict[Program, Process] = {}
        self._keepers: dict[Program, asyncio.Task[None]] = {}

    def start(self, program: Program) -> None:
        self._keepers[program] = asyncio.create_task(self._keep(program))

    def stop_on_signals(self) -> None:
        for signum in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(signum, self._stopping.set)

    async def until_stopped(self) -> None:
        await self._stopping.wait()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    async def stop(self, *stages: list[Program]) -> None:
        """End the programs of one stage together, then those of the next."""
        self._stopping.set()
        for stage in stages:
            await asyncio.gather(*(self._end(program) for program in stage))

    async def _end(self, program: Program) -> None:
        process, keeper = self._processes.get(program), self._keepers.get(program)
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), program.grace)
            except TimeoutError:
                self._print(program, f"did not end within {program.grace:g} s: killed")
                # The whole group: a web server has processes of its own.
                os.killpg(process.pid, signal.SIGKILL)
        if keeper is not None:
            await keeper

    async def _keep(self, program: Program) -> None:
        pause = FIRST_PAUSE
        while not self.stopping:
            started = time.monotonic()
            try:
                code = await self._run(program)
            except OSError as error:  # no memory for another process, perhaps
                self._print(program, f"can't be started: {error}")
                code = 1
            if self.stopping:
                break
            try:
                await asyncio.to_thread(self._bury)
            except Exception:  # what comes next matters more
                log.exception("%s ended, and what it left behind is still there", program.name)
            if time.monotonic() - started > STEADY:
                pause = FIRST_PAUSE
            self._print(program, f"ended with {_reason(code)}; starting it again in {pause:g} s")
            try:
                await asyncio.wait_for(self._stopping.wait(), pause)
            except TimeoutError:
                pause = min(pause * 2, LONGEST_PAUSE)

    async def _run(self, program: Program) -> int:
        process = await asyncio.create_subprocess_exec(
            *program.command,
            stdout=PIPE,
            stderr=STDOUT,
            limit=LONGEST_LINE,
            # Ctrl-C reaches only us: we say who ends when.
            start_new_session=True,
            preexec_fn=partial(die_with_parent, os.getpid()),
        )
        self._processes[program] = process
        clearing = asyncio.create_task(_clear_up(process))
        try:
            return await self._pass_on_output(program, process)
        finally:
            await clearing

    async def _pass_on_output(self, program: Program, process: Process) -> int:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readuntil(b"\n")
            except asyncio.IncompleteReadError as end:
                line = end.partial
            except asyncio.LimitOverrunError:
                line = await process.stdout.read(LONGEST_LINE)
            if not line:
                return await process.wait()
            self._print(program, line.decode(errors="replace").rstrip())

    def _print(self, program: Program, line: str) -> None:
        with suppress(OSError):  # nobody reads it any more; the programs go on
            self._say(f"{program.name:<{self._width}} | {line}")


async def _clear_up(process: Process) -> None:
    """When it has ended, end what it has left of its own: that holds its port and its output."""
    while process.returncode is None:
        await asyncio.sleep(LOOK)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _reason(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name

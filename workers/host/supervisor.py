"""Keeps a few processes running on one machine, and ends them together."""

import asyncio
import logging
import os
import signal
import time
from asyncio.subprocess import PIPE, STDOUT, Process
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from workers.host.parent import dying_with_us

log = logging.getLogger(__name__)

LOOK = 0.1  # seconds between two looks whether a process has ended
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds before a process that ended is started again
STEADY = 10.0  # seconds of life after which the next pause is the first one again
LONGEST_LINE = 1024 * 1024  # bytes; a longer line is printed in pieces
LAST_LINES = 20  # of a program that ended, in which it may say why
HURRIED = 0.5  # seconds that each stage of a stop gets once we are told to hurry


@dataclass(frozen=True)
class Program:
    """`mend` gets the last lines of a program that ended though nobody stopped it. It returns what
    it has repaired, as a sentence, and the program is started again at once; otherwise None."""

    name: str
    command: tuple[str, ...]
    grace: float  # seconds it gets to end after SIGTERM
    orphaned: signal.Signals = signal.SIGTERM  # what it gets if we are killed
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)  # besides our own
    mend: Callable[[Sequence[str]], str | None] = lambda lines: None


class Supervisor:
    """Runs programs, restarts programs that end, and prefixes their output with their names.

    `bury` is called, in a thread, when a program has ended although nobody stopped it.
    """

    def __init__(
        self, say: Callable[[str], None], width: int, bury: Callable[[], object] = lambda: None
    ) -> None:
        self._say = say
        self._width = width
        self._bury = bury
        self._stopping = asyncio.Event()
        self._hurrying = asyncio.Event()
        self._last_lines: dict[Program, deque[str]] = {}
        self._processes: dict[Program, Process] = {}
        self._keepers: dict[Program, asyncio.Task[None]] = {}

    def start(self, program: Program) -> None:
        """Keep the program running from now on."""
        self._keepers[program] = asyncio.create_task(self._keep(program))

    def stop_on_signals(self, first: Callable[[], object], second: Callable[[], object]) -> None:
        """The first signal begins the stop, the second one hurries it; what else to do then."""

        def stop() -> None:
            if not self._stopping.is_set():
                self._stopping.set()
                first()
            elif not self._hurrying.is_set():
                self._hurrying.set()
                second()

        for signum in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(signum, stop)

    async def until_stopped(self) -> None:
        """Wait for the first signal."""
        await self._stopping.wait()

    @property
    def stopping(self) -> bool:
        """Whether the stop has begun."""
        return self._stopping.is_set()

    def last_line(self, program: Program) -> str:
        """What it printed last in its latest run; empty if it printed nothing."""
        return next(reversed(self._last_lines.get(program, ())), "")

    async def stop(self, *stages: list[Program]) -> None:
        """End the programs of one stage together, then the programs of the next stage."""
        self._stopping.set()
        for stage in stages:
            await asyncio.gather(*(self._end(program) for program in stage))

    async def _end(self, program: Program) -> None:
        process, keeper = self._processes.get(program), self._keepers.get(program)
        if process is not None and process.returncode is None:
            process.terminate()
            if not await self._ends(process, program.grace):
                # The whole group: a web server has processes of its own.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                if not self._hurrying.is_set():
                    self._print(program, f"did not end within {program.grace:g} s: killed")
        if keeper is not None:
            await keeper

    async def _ends(self, process: Process, within: float) -> bool:
        """Whether it ends within `within` seconds, or soon after we are told to hurry."""
        ended = asyncio.create_task(process.wait())
        hurry = asyncio.create_task(self._hurrying.wait())
        await asyncio.wait({ended, hurry}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        if hurry.done():
            await asyncio.wait({ended}, timeout=HURRIED)
        hurry.cancel()
        ended.cancel()
        return process.returncode is not None

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
            if mended := await asyncio.to_thread(self._mend, program):
                self._print(program, mended)
                continue
            if time.monotonic() - started > STEADY:
                pause = FIRST_PAUSE
            self._print(program, f"ended with {_reason(code)}; starting it again in {pause:g} s")
            try:
                await asyncio.wait_for(self._stopping.wait(), pause)
            except TimeoutError:
                pause = min(pause * 2, LONGEST_PAUSE)

    def _mend(self, program: Program) -> str | None:
        try:
            return program.mend(list(self._last_lines.get(program, ())))
        except OSError as error:
            log.error("%s: what it left behind can't be repaired: %s", program.name, error)
            return None

    async def _run(self, program: Program) -> int:
        process = await asyncio.create_subprocess_exec(
            *dying_with_us(program.command, program.orphaned),
            env={**os.environ, **program.environment},
            stdout=PIPE,
            stderr=STDOUT,
            limit=LONGEST_LINE,
            # Ctrl-C reaches only us: we say who ends when.
            start_new_session=True,
        )
        self._last_lines[program] = deque(maxlen=LAST_LINES)
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
            shown = line.decode(errors="replace").rstrip()
            self._last_lines[program].append(shown)
            self._print(program, shown)

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

"""The machine a worker runs on: its identity, and what its processor offers."""

import hashlib
import os
import platform
import socket
import sys
from pathlib import Path

from workers.host import quota

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PID_NAMESPACE = Path("/proc/self/ns/pid")
CPU_INFO = Path("/proc/cpuinfo")
MEMORY = Path("/proc/self/statm")
DEVICES = Path("/dev")
# NVIDIA's, on servers and on its boards; WSL's; AMD's.
GPU_FILES = ("nvidia*", "nvhost*", "nvgpu*", "dxg", "kfd")


def identity() -> str:
    """The same in all containers of one machine."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return socket.gethostname()


def place() -> str:
    """The same for processes that see each other under the same process ids."""
    try:
        return f"{identity()} {PID_NAMESPACE.readlink()}"
    except OSError:
        return identity()


def process_started(pid: int) -> str | None:
    """When, in a unit that no clock can shift; None if it is gone, or dead and unburied; empty if
    that can't be seen."""
    try:
        state, *numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else numbers[18]
    except (FileNotFoundError, ProcessLookupError):
        pass
    except OSError:
        return ""
    try:  # on macOS nothing tells apart two processes that have the same number in turn
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""


def cores() -> int:
    """Whole cores this process may use, affinity and a container's quota considered."""
    limit = quota.own()
    available = len(_affinity())
    return max(1, min(available, int(limit.cores)) if limit else available)


def shares() -> str:
    """The same for the processes that share cores with this process: all processes under its quota
    or on its set of cores, if it has one, and else all on the machine. At most 64 characters."""
    limit, allowed = quota.own(), _affinity()
    own = [limit.group] if limit else []
    if len(allowed) < (os.cpu_count() or 1):
        own.append(",".join(map(str, sorted(allowed))))
    if not own:
        return identity()
    digest = hashlib.sha256(" ".join(own).encode()).hexdigest()[:16]
    return f"{identity()[:47]} {digest}"


def _affinity() -> set[int]:
    """Numbers of the cores that this process may run on."""
    try:
        return os.sched_getaffinity(0)
    except AttributeError:  # not on macOS
        return set(range(os.cpu_count() or 1))


def processor() -> str:
    """Its model and its instructions, as far as the system says: code as fast here as there."""
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        return platform.processor()
    known = ("model name", "flags", "CPU part", "Features")  # the last two on ARM
    return " ".join(sorted({line for line in lines if line.startswith(known)}))


def computes_bf16() -> bool:
    """Whether the processor has instructions for bfloat16, as far as the system says."""
    try:
        words = set(CPU_INFO.read_text().split())
    except OSError:
        return False
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})  # the last on ARM


def threads(workers: int) -> int:
    """Threads each of this many workers that share cores gets, so that they don't fight."""
    return max(1, cores() // max(1, workers))


def resident() -> int:
    """Bytes of memory that this process has; 0 where that can't be seen."""
    try:
        return int(MEMORY.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def may_have_gpu() -> bool:
    """False only where that is sure: on a Linux that has none of the drivers' device files."""
    return sys.platform != "linux" or any(any(DEVICES.glob(name)) for name in GPU_FILES)

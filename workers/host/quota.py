"""How much processor time this process may use: the quota of its cgroup, as cgroups(7) has them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROCESS = Path("/proc/self")


@dataclass(frozen=True)
class Quota:
    """Of a container, a pod, or a service."""

    cores: float  # seconds of processor time a second
    group: str  # the same for all processes that share this quota, in whatever container they are


def own() -> Quota | None:
    """The least of the quotas that this process is under; None if it is under none."""
    found = [quota for folder in _folders() if (quota := _read(folder))]
    return min(found, key=lambda quota: quota.cores, default=None)


def _folders() -> Iterator[Path]:
    """Of this process's cgroups with processor time, each with the groups around it."""
    try:
        memberships = (PROCESS / "cgroup").read_text().splitlines()
        mounts = (PROCESS / "mountinfo").read_text().splitlines()
    except OSError:  # not on macOS
        return
    paths = {
        tuple(controllers.split(",")): path
        for _, controllers, path in (line.split(":", 2) for line in memberships)
    }
    for mount in mounts:
        ours, _, system = mount.partition(" - ")
        root, point = ours.split()[3:5]
        kind, _, options = system.split()[:3]
        for controllers, path in paths.items():
            version_2 = kind == "cgroup2" and controllers == ("",)
            version_1 = kind == "cgroup" and "cpu" in set(controllers) & set(options.split(","))
            if version_2 or version_1:
                yield from _upwards(Path(point), root, path)


def _upwards(point: Path, root: str, path: str) -> Iterator[Path]:
    """From the process's group to what is mounted at `point`, which is the group `root`."""
    inside = path.removeprefix(root.rstrip("/")) if path.startswith(root) else ""
    folder = point / inside.strip("/")
    while folder != point:
        yield folder
        folder = folder.parent
    yield point


def _read(folder: Path) -> Quota | None:
    try:
        if (folder / "cpu.max").exists():  # version 2
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        cores = int(quota) / int(period)  # "max": it has none
        status = folder.stat()
    except (OSError, ValueError, ZeroDivisionError):
        return None
    # Version 1 writes -1 where there is none.
    return Quota(cores, f"{status.st_dev}:{status.st_ino}") if cores > 0 else None

"""A worker in a container computes with its own quota; other workers share the machine's cores.

The cgroups are folders made here as the kernel writes them: no test machine has all of them.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from workers.host import machine, quota

Cgroups = Callable[..., None]


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cgroups:
    """Makes this process a member of the group `path`, with `files` of groups below the mount."""
    monkeypatch.setattr(quota, "PROCESS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)

    def make(
        member: str,
        files: dict[str, str],
        kind: str = "cgroup2",
        options: str = "rw",
        root: str = "/",
    ) -> None:
        (tmp_path / "cgroup").write_text(f"4:memory:/elsewhere\n{member}\n")
        (tmp_path / "mountinfo").write_text(
            f"22 1 0:20 / /proc rw - proc proc rw\n"
            f"31 23 0:28 {root} {tmp_path}/mount rw,nosuid shared:9 - {kind} {kind} {options}\n"
        )
        (tmp_path / "mount").mkdir(exist_ok=True)
        for name, text in files.items():
            file = tmp_path / "mount" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    return make


def test_without_a_quota_all_cores_of_the_machine_are_shared(cgroups: Cgroups) -> None:
    cgroups("0::/", {"cpu.max": "max 100000\n"})
    assert machine.cores() == 8
    assert machine.shares() == machine.identity()


@pytest.mark.parametrize(
    ("text", "cores"), [("400000 100000", 4), ("150000 100000", 1), ("50000 100000", 1)]
)
def test_a_container_has_its_quota(cgroups: Cgroups, text: str, cores: int) -> None:
    cgroups("0::/", {"cpu.max": f"{text}\n"})
    assert machine.cores() == cores
    assert machine.shares() != machine.identity()
    assert len(machine.shares()) <= 64


def test_a_service_has_the_least_quota_of_the_groups_that_it_is_in(cgroups: Cgroups) -> None:
    cgroups(
        "0::/system.slice/velo.service",
        {
            "system.slice/cpu.max": "300000 100000\n",
            "system.slice/velo.service/cpu.max": "500000 100000\n",
        },
    )
    assert machine.cores() == 3


def test_version_1_has_quotas_too(cgroups: Cgroups) -> None:
    cgroups(
        "3:cpu,cpuacct:/velo",
        {"velo/cpu.cfs_quota_us": "200000\n", "velo/cpu.cfs_period_us": "100000\n"},
        kind="cgroup",
        options="rw,cpu,cpuacct",
    )
    assert machine.cores() == 2


def test_version_1_in_a_container_names_the_group_outside_it(cgroups: Cgroups) -> None:
    cgroups(
        "3:cpu,cpuacct:/docker/abc",
        {"cpu.cfs_quota_us": "300000\n", "cpu.cfs_period_us": "100000\n"},
        kind="cgroup",
        options="rw,cpu,cpuacct",
        root="/docker/abc",
    )
    assert machine.cores() == 3


def test_version_1_without_a_quota_writes_minus_one(cgroups: Cgroups) -> None:
    cgroups(
        "3:cpu,cpuacct:/",
        {"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"},
        kind="cgroup",
        options="rw,cpu,cpuacct",
    )
    assert machine.cores() == 8
    assert machine.shares() == machine.identity()


def test_only_workers_of_one_quota_share_it(cgroups: Cgroups) -> None:
    """Four pods of four cores each have four threads, not one."""
    shares = []
    for pod in ("pod-a", "pod-b", "pod-a"):
        cgroups(f"0::/{pod}", {f"{pod}/cpu.max": "400000 100000\n"})
        shares.append(machine.shares())
    assert shares[0] == shares[2] != shares[1]


def test_workers_on_other_cores_share_nothing(
    cgroups: Cgroups, monkeypatch: pytest.MonkeyPatch
) -> None:
    cgroups("0::/", {})
    shares = []
    for cores in ({0, 1}, {2, 3}, {0, 1}):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, cores=cores: cores)
        shares.append(machine.shares())
        assert machine.cores() == 2
    assert shares[0] == shares[2] != shares[1]


def test_a_system_without_cgroups_has_all_its_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "PROCESS", tmp_path / "nothing")
    assert quota.own() is None
    assert machine.cores() >= 1

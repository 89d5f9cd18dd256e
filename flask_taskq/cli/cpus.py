"""How many CPUs a worker may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final
from typing import NamedTuple

#: Where Linux shows the control groups of this process, and their limits.
_MEMBERSHIPS: Final = Path("/proc/self/cgroup")
_GROUPS: Final = Path("/sys/fs/cgroup")


class CPUs(NamedTuple):
    """How many CPUs there are to use, at least one, and what sets this limit."""

    number: int
    reason: str


def count_cpus() -> CPUs:
    """The least of the machine's CPUs, those that this process may run on, and the quota
    of its control groups, rounded up.

    From Python 3.13 on, ``PYTHON_CPU_COUNT`` stands for the first two.
    """
    cores = os.cpu_count() or 1
    limits = [CPUs(cores, f"CPUs of the machine: {cores}")]
    allowed = _count_allowed()
    if allowed is not None:
        limits.append(CPUs(allowed, f"CPUs that it may run on: {allowed}"))
    quota = read_quota()
    if quota is not None:
        limits.append(CPUs(max(1, math.ceil(quota)), f"CPUs of its cgroup: {quota:.4g}"))
    return min(limits, key=lambda limit: limit.number)


def read_quota(memberships: Path = _MEMBERSHIPS, groups: Path = _GROUPS) -> float | None:
    """How many CPUs' time the control groups of this process may take together.

    A group may be limited by any of those that it is in, so the least of them counts. Of
    version 1 and 2.

    :param memberships: the file that lists the groups.
    :param groups: where they are mounted.
    :return: None if there is no limit.
    """
    try:
        lines = memberships.read_text().splitlines()
    except OSError:
        return None
    quotas = [quota for line in lines for quota in _read_quotas(line, groups)]
    return min(quotas, default=None)


def _count_allowed() -> int | None:
    if hasattr(os, "process_cpu_count"):
        count: int | None = os.process_cpu_count()
        return count
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _read_quotas(line: str, groups: Path) -> Iterator[float]:
    """:param line: ``0::/shop/worker``, or of version 1 ``4:cpu,cpuacct:/shop/worker``."""
    number, _, rest = line.partition(":")
    controllers, _, path = rest.partition(":")
    if number == "0" and not controllers:
        mounts = [groups]
    elif "cpu" in controllers.split(","):
        mounts = [groups / controllers, groups / "cpu"]
    else:
        return
    # A container may see the path that its host knows, and only its own part of the tree:
    # what is not there is passed over, up to the top, which is there.
    steps = [step for step in path.split("/") if step not in ("", "..")]
    for mount in mounts:
        for depth in range(len(steps), -1, -1):
            with suppress(OSError, ValueError, ZeroDivisionError):
                yield _read_group(mount.joinpath(*steps[:depth]), is_first=controllers != "")


def _read_group(group: Path, *, is_first: bool) -> float:
    """:raises OSError, ValueError: the group has no limit, or is not there."""
    if is_first:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        period = int((group / "cpu.cfs_period_us").read_text())
    else:
        # "max" in place of a number is no limit.
        quota, period = map(int, (group / "cpu.max").read_text().split())
    if quota <= 0:
        raise ValueError(quota)
    return quota / period

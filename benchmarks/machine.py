"""What the machine tells of its processes, by ``/proc``: this is for Linux."""

from __future__ import annotations

import os
import platform
from datetime import datetime
from datetime import UTC
from pathlib import Path
from typing import Any


def describe() -> dict[str, Any]:
    """Where and when something was measured, and how busy the machine was at the time."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
    }


def descendants(root: int) -> set[int]:
    """Process ids of all processes below this one."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        if fields := _fields(stat):
            parents[int(stat.parent.name)] = int(fields[1])
    tree = {root}
    while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return tree - {root}


def cpu_seconds(*pids: int) -> float:
    """What processes have used so far."""
    ticks = 0
    for pid in pids:
        if fields := _fields(Path(f"/proc/{pid}/stat")):
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """Memory of a process that is neither swapped out nor untouched, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def proportional(*pids: int) -> float:
    """Memory of processes, of what several share only their part, in MiB."""
    kilobytes = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        kilobytes += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kilobytes / 1024


def _fields(stat: Path) -> list[str]:
    """Those after the name, which may have blanks; none of a process that has ended."""
    try:
        return stat.read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()

"""Whether it can be proven that a worker is dead, before its lease is over.

A worker is dead if the machine is the same and was not restarted, the namespace of process ids
is the same, and no process with its id and its start time exists. If any of this cannot be
read, as in another container or on a system without ``/proc``, nothing is proven, and the lease
decides. A worker lives as long as a process lives that renews its lease: its own process, which
continues after its supervisor has died, or the supervisor, which knows the jobs that its
processes were running.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ..engines.listing import WorkerInfo

_PROC = Path("/proc")


class Process(NamedTuple):
    state: str
    threads: int
    started: int


def find_host() -> str | None:
    """An id of the host: equal for processes that can prove each other's death. Or None."""
    try:
        # In the /proc of another namespace, the ids belong to other processes.
        if os.readlink(_PROC / "self") != str(os.getpid()):
            return None
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        ids = os.readlink(_PROC / "self/ns/pid")
    except OSError:
        return None
    times = ""
    with suppress(OSError):  # older kernels have none
        # The start time of a process is in the clock of the reader's time namespace.
        times = os.readlink(_PROC / "self/ns/time")
    # The number of a namespace may be used again after it has ended.
    first = read_process(1)
    began = "" if first is None else first.started
    return f"{boot} {ids} {began} {times}"


def generate_worker_id() -> str:
    """An id that no other worker has or had, unlike a host name with a process id."""
    return secrets.token_hex(8)


def is_dead(info: WorkerInfo) -> bool:
    """Whether all processes that renew a worker's lease are proven to have ended.

    :param info: of a worker on the host that :func:`find_host` returns.
    """
    return bool(info.processes) and all(
        _has_ended(pid, started) for pid, started in info.processes
    )


def _has_ended(pid: int, started: int) -> bool:
    # Checked first: /proc may hide processes of other users, which then seem dead.
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    found = read_process(pid)
    if found is None:
        return False
    # Its parent has not waited for it yet. While other threads of it end, it is not dead.
    is_zombie = found.state in "ZX" and found.threads <= 1
    return is_zombie or found.started != started


def read_process(pid: int) -> Process | None:
    """A process of this machine, as the system shows it; None if it shows none."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name, in parentheses, may contain anything.
    fields = text.rpartition(")")[2].split()
    try:
        return Process(fields[0], int(fields[17]), int(fields[19]))
    except (IndexError, ValueError):
        return None

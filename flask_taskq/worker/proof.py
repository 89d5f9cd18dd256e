"""Whether it can be proven that a worker is dead, before its lease is over.

The proof needs the machine itself: the same machine, not restarted since, the same
namespace of process ids, and no process with that id that began at that time. Where anything
of this cannot be read, as in another container or on a system without ``/proc``, nothing is
proven, and the lease decides. A worker lives as long as one of the processes that renew its
lease does: its own, which goes on when its supervisor has died, and the supervisor's, which
knows what its processes were running when they died.
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
    """What is the same for all processes that can prove each other's death, or None."""
    try:
        # Of another namespace's /proc, ids mean other processes.
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
    # The number of a namespace that has ended may be that of one which came after it.
    first = read_process(1)
    began = "" if first is None else first.started
    return f"{boot} {ids} {began} {times}"


def generate_worker_id() -> str:
    """A name that no other worker has or had, unlike a host's name with a process id."""
    return secrets.token_hex(8)


def is_dead(info: WorkerInfo) -> bool:
    """Whether all processes that keep a worker's lease have ended for certain.

    :param info: of the host that :func:`find_host` names.
    """
    return bool(info.processes) and all(
        _has_ended(pid, started) for pid, started in info.processes
    )


def _has_ended(pid: int, started: int) -> bool:
    # Asked first: /proc may hide the processes of other users, which then look dead.
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

"""What a worker registers about itself."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib import metadata

from ..engines.listing import WorkerInfo
from .liveness import find_host
from .liveness import read_process


def describe_worker(
    queues: Iterable[str] = (), started_at: int = 0, *, has_supervisor: bool
) -> WorkerInfo:
    """What a worker in this process registers about itself.

    :param has_supervisor: whether the parent of this process renews its lease.
    :return: without a host and processes if their death could not be proven.
    """
    host = find_host()
    pids = [os.getpid(), os.getppid()] if has_supervisor else [os.getpid()]
    found = [(pid, read_process(pid)) for pid in pids]
    known = tuple((pid, one.started) for pid, one in found if one is not None)
    is_known = host is not None and len(known) == len(pids)
    return WorkerInfo(
        host=host if host is not None and is_known else "",
        processes=known if is_known else (),
        hostname=platform.node(),
        pid=os.getpid(),
        queues=tuple(sorted(queues)),
        version=metadata.version("flask_taskq"),
        started_at=started_at,
    )

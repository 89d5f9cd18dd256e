"""Decides when a process has run enough jobs, or uses too much memory."""

from __future__ import annotations

import os
import random
import resource
import sys
from pathlib import Path
from typing import Final

from ...clock import Clock
from ...loggers import get_logger
from ..threads.worker import Worker
from .channel import ReplaceRequest

logger = get_logger(__name__)

#: The random part that is added to ``max_jobs``, so that processes which were started together
#: are not replaced together.
_JITTER: Final = 0.1

#: If a process is too large sooner than this (ms), its successor will be, too.
_SOON: Final = 5_000


class RecyclePolicy:
    """Decides whether a worker's process asks to be replaced. It asks once.

    Make it when the app is built and nothing has run yet.

    :param worker: what the process runs.
    :param max_jobs: after about how many runs of jobs; None for no limit.
    :param max_memory: at how many bytes of resident memory; None for no limit.
    """

    def __init__(
        self, worker: Worker, max_jobs: int | None, max_memory: int | None, clock: Clock
    ) -> None:
        self._worker = worker
        self._max_jobs = max_jobs and max_jobs + random.randint(0, int(max_jobs * _JITTER))
        self._max_memory = max_memory
        self._clock = clock
        self._began = clock.monotonic()
        self._has_asked = False
        #: Whether any limit is set.
        self.has_limits = not (max_jobs is None and max_memory is None)
        self._is_too_large_at_first = self._is_too_large()
        if self._is_too_large_at_first:
            logger.warning(
                "the app alone takes %d bytes of memory, more than the %d of --max-memory:"
                " processes will be replaced as soon as they have run a job. Raise it",
                measure_memory(),
                max_memory,
            )

    def look(self) -> ReplaceRequest | None:
        """The request to the supervisor, if it is time for it."""
        request = None if self._has_asked else self._check()
        self._has_asked = self._has_asked or request is not None
        return request

    def _check(self) -> ReplaceRequest | None:
        finished = self._worker.finished
        if self._max_jobs is not None and finished >= self._max_jobs:
            return ReplaceRequest(f"it has run {finished} jobs")
        # Before its first job it is as large as its successor would be.
        if self._is_too_large() and (finished or not self._worker.is_idle):
            age = self._clock.monotonic() - self._began
            return ReplaceRequest(
                f"it takes {measure_memory()} bytes of memory",
                soon=self._is_too_large_at_first or age < _SOON,
            )
        return None

    def _is_too_large(self) -> bool:
        return self._max_memory is not None and measure_memory() > self._max_memory


def measure_memory() -> int:
    """The resident memory of this process in bytes, or its peak if only that is known."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")

"""What the threads of a process are doing, in memory that its supervisor reads.

A child writes here which jobs it has started; the supervisor knows them even after the
child was killed in the middle. The other way round, the supervisor writes when it last
renewed the child's lease.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import Final
from typing import NamedTuple

#: Bytes per slot. The first one is the header.
_SIZE: Final = 64
_DOUBLES: Final = _SIZE // 8

# Offsets within a slot. The flag is written last on the way in and first on the way out,
# so that whoever reads it set can trust the rest.
_FLAG: Final = 0
_STARTED_AT: Final = 1  # in doubles
_JOB_ID: Final = 24
_JOB_ID_LENGTH: Final = 32


class StartedJob(NamedTuple):
    """A job that a thread is running.

    :param started_at: milliseconds of the monotonic clock.
    """

    job_id: str
    started_at: float


class SlotTable:
    """One slot for each runner thread of a process, behind a header.

    :param threads: how many slots.
    :param fd: a file of :meth:`size_for` bytes, or None for memory of this process alone.
    """

    def __init__(self, threads: int, fd: int | None = None) -> None:
        self.threads = threads
        self._memory = mmap.mmap(-1 if fd is None else fd, self.size_for(threads))
        self._bytes = memoryview(self._memory)
        self._doubles = self._bytes.cast("d")

    @staticmethod
    def size_for(threads: int) -> int:
        """How many bytes a table has."""
        return _SIZE * (threads + 1)

    @classmethod
    def open_file(cls, threads: int) -> int:
        """A nameless file for a table, to be handed to a child.

        :return: its descriptor, which the caller closes.
        """
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("taskq-slots")
        else:
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.truncate(fd, cls.size_for(threads))
        return fd

    @property
    def renewed_at(self) -> float:
        """When the lease was last renewed, in milliseconds of the monotonic clock."""
        return self._doubles[0]

    @renewed_at.setter
    def renewed_at(self, monotonic: float) -> None:
        self._doubles[0] = monotonic

    def start(self, slot: int, job_id: str, started_at: float) -> None:
        """A thread is about to run a job."""
        self._doubles[(slot + 1) * _DOUBLES + _STARTED_AT] = started_at
        self._job_id(slot)[:] = job_id.encode()
        self._bytes[(slot + 1) * _SIZE + _FLAG] = 1

    def end(self, slot: int) -> None:
        """The job of a thread has ended, whatever its outcome."""
        self._bytes[(slot + 1) * _SIZE + _FLAG] = 0

    def started(self) -> list[StartedJob]:
        """The jobs that are running, or were when the process died."""
        return [
            StartedJob(
                bytes(self._job_id(slot)).decode(),
                self._doubles[(slot + 1) * _DOUBLES + _STARTED_AT],
            )
            for slot in range(self.threads)
            if self._bytes[(slot + 1) * _SIZE + _FLAG]
        ]

    def _job_id(self, slot: int) -> memoryview:
        offset = (slot + 1) * _SIZE + _JOB_ID
        return self._bytes[offset : offset + _JOB_ID_LENGTH]

    def close(self) -> None:
        """Let go of the memory."""
        self._doubles.release()
        self._bytes.release()
        self._memory.close()

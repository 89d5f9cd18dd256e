"""The slot table: shared memory in which a child process writes which jobs it runs.

The supervisor reads the table, also after the child was killed. In the header, the supervisor
writes when it last renewed the lease of the child.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
import tempfile
from typing import Final
from typing import NamedTuple

#: Bytes per slot. The first one is the header.
_SIZE: Final = 64

#: The version of this table. The process that writes it may have another release than its
#: supervisor, which does not read an unknown version.
_VERSION: Final = 1

# Offsets within a slot. The flag is written last on the way in and first on the way out,
# so that a reader that finds it set can trust the rest.
_FLAG: Final = 0
_STARTED_AT: Final = 8
_KILL_AT: Final = 16
_JOB_ID: Final = 24
_JOB_ID_LENGTH: Final = 32


class StartedJob(NamedTuple):
    """A running job. Times are milliseconds of the monotonic clock.

    :param kill_at: when its process has to be replaced if it still runs.
    """

    job_id: str
    started_at: float
    kill_at: float


class Slot:
    """The slot of one runner thread, or of one coroutine."""

    __slots__ = ("_flag", "_job_id", "_numbers")

    def __init__(self, memory: memoryview) -> None:
        # Views of the fields, so that no offset is computed for each job.
        self._flag = memory[_FLAG : _FLAG + 1]
        self._numbers = memory[_STARTED_AT:_JOB_ID].cast("d")
        self._job_id = memory[_JOB_ID : _JOB_ID + _JOB_ID_LENGTH]

    def start(self, job_id: str, started_at: float) -> None:
        """A job is about to run. :param started_at: milliseconds of the monotonic clock."""
        self._numbers[0] = started_at
        self._numbers[1] = math.inf
        self._job_id[:] = job_id.encode()
        self._flag[0] = 1

    def limit(self, kill_at: float) -> None:
        """When the process has to be replaced if the job still runs by then."""
        self._numbers[1] = kill_at

    def end(self) -> None:
        """The job has ended, whatever its outcome."""
        self._flag[0] = 0

    def read(self) -> StartedJob | None:
        """The job that is running, or was when the process died."""
        if not self._flag[0]:
            return None
        started_at, kill_at = self._numbers
        # It may have been overwritten, and reading it must not fail for that.
        job_id = bytes(self._job_id).decode("ascii", "replace")
        return StartedJob(job_id, started_at, kill_at)

    def release(self) -> None:
        """Let go of the memory."""
        for view in (self._flag, self._numbers, self._job_id):
            view.release()


class SlotTable:
    """A slot for each run that a process can have at the same time, behind a header.

    :param size: the number of slots; a smaller file is enlarged. None for the number in the
        file.
    :param fd: a file from :meth:`open_file`, or None for memory of this process alone.
    """

    def __init__(self, size: int | None, fd: int | None = None) -> None:
        is_writer = size is not None
        if fd is not None:
            there = os.fstat(fd).st_size // _SIZE - 1
            size = there if size is None else max(size, there)
            os.truncate(fd, _bytes_of(size))
        self._memory = mmap.mmap(-1 if fd is None else fd, _bytes_of(size or 0))
        self._view = memoryview(self._memory)
        self._header = self._view[:8].cast("d")
        self._version = self._view[8:9]
        self.slots = [
            Slot(self._view[at : at + _SIZE]) for at in range(_SIZE, len(self._view), _SIZE)
        ]

        if is_writer:
            self._version[0] = _VERSION

    @staticmethod
    def open_file() -> int:
        """An anonymous file for a table, which a child inherits.

        :return: its descriptor, which the caller closes.
        """
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("taskq-slots", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            # Without the seal, a job that shrinks this file by mistake would kill the process
            # that reads it.
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        else:
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.truncate(fd, _bytes_of(0))
        return fd

    @property
    def renewed_at(self) -> float:
        """When the lease was last renewed, in milliseconds of the monotonic clock."""
        return self._header[0]

    @renewed_at.setter
    def renewed_at(self, monotonic: float) -> None:
        self._header[0] = monotonic

    @property
    def is_known(self) -> bool:
        """Whether this release can read it. It has no version before the process starts."""
        return self._version[0] in (0, _VERSION)

    def started(self) -> list[StartedJob]:
        """The jobs that are running, or were when the process died; none if the table is
        unreadable.
        """
        if not self.is_known:
            return []
        jobs = (slot.read() for slot in self.slots)
        return [job for job in jobs if job is not None]

    def close(self) -> None:
        """Let go of the memory."""
        for slot in self.slots:
            slot.release()
        self._header.release()
        self._version.release()
        self._view.release()
        self._memory.close()


def _bytes_of(slots: int) -> int:
    return _SIZE * (slots + 1)

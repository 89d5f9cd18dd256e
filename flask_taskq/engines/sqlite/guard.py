"""Keeps other processes from taking the log away while this one has it open.

SQLite's locks are those of the process, and the system drops all that a process has on a
file when it closes any descriptor of it: a backup of the file by the web server itself is
enough. The next process to close the file then takes itself for the last one that has it
open, and removes the log, into which this process goes on writing. So a second lock of
the same kind is put on SQLite's own descriptors, one that nothing but their end releases.
Only Linux has such locks and shows a process its descriptors; elsewhere, and where the
filesystem refuses, there is only what :class:`~.files.Opened` notices.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
from collections import Counter
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from .files import Identity
from .files import Opened

#: What SQLite locks for reading as long as it has a database with a log open, and wants to
#: lock for writing when it removes the log. Part of its file format.
_SHARED: Final = (0x4000_0002, 510)

#: What it locks in the index of the log, so that no process resets the log.
_IN_USE: Final = (128, 1)

_SET_LOCK: Final[int | None] = getattr(fcntl, "F_OFD_SETLK", None)

# An object that is thrown away may close its connection in the midst of another's opening.
_lock = threading.RLock()
_connections: Counter[Identity] = Counter()


def keep(opened: Opened) -> bool:
    """Guard the log of a connection that has just been opened.

    :return: False if these are not the files that it has open; then nothing is guarded.
    """
    with _lock:
        found = _descriptors()
        if found.get(opened.database) and not (found[opened.log] and found[opened.shared]):
            return False
        _connections[opened.database] += 1
        _set_locks(found[opened.database], fcntl.F_RDLCK, _SHARED)
        _set_locks(found[opened.shared], fcntl.F_RDLCK, _IN_USE)
        return True


def release(opened: Opened, *, leave_log: bool) -> None:
    """Guard it no longer for a connection that is about to be closed.

    :param leave_log: whether SQLite is to leave the log alone, though this be the last
        connection: it would remove by its name what is not its own.
    """
    with _lock:
        _connections[opened.database] -= 1
        if _connections[opened.database] <= 0:
            del _connections[opened.database]
            if not leave_log:
                _set_locks(_descriptors()[opened.database], fcntl.F_UNLCK, _SHARED)


def taken_away_at(opened: Opened) -> int:
    """When a log and its index were deleted, in nanoseconds of the filesystem's clock.

    :return: 0 where the system does not say.
    """
    found = _descriptors()
    times = [0]
    for descriptor in (*found[opened.log], *found[opened.shared]):
        with suppress(OSError):
            times.append(os.stat(f"/proc/self/fd/{descriptor}").st_ctime_ns)
    return max(times)


def _descriptors() -> dict[tuple[int, int], list[int]]:
    """Those of this process, by device and inode, as far as the system shows them."""
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    with suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                one = os.stat(f"/proc/self/fd/{name}")
                found[one.st_dev, one.st_ino].append(int(name))
    return found


def _set_locks(descriptors: Sequence[int], kind: int, span: tuple[int, int]) -> None:
    if _SET_LOCK is None:
        return
    # A struct flock: kind, from where to count, start, length, and no process.
    wanted = struct.pack("hhqqi0q", kind, os.SEEK_SET, *span, 0)
    for descriptor in descriptors:
        with suppress(OSError):
            fcntl.fcntl(descriptor, _SET_LOCK, wanted)


def _after_in_child() -> None:
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_after_in_child)

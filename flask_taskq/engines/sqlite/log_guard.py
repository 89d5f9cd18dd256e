"""Prevents other processes from removing the log while this process has it open.

SQLite's locks belong to the process. When a process closes any descriptor of a file, the
operating system releases all locks of the process on that file. A backup of the database by the
web server's own process is enough. The next process that closes the file then takes itself for
the last one that has it open, and removes the log, although this process still writes to it.
This module therefore sets locks of another kind on the same bytes, through SQLite's own
descriptors. Only closing these descriptors releases them.

Only Linux has such locks and lists the descriptors of a process. On other systems, and where
the filesystem refuses the locks, there is only the check of :class:`~.files.Watch`.
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

#: SQLite locks these bytes for reading as long as it has a database with a log open. It needs
#: to lock them for writing before it removes the log. They are part of its file format.
_SHARED: Final = (0x4000_0002, 510)

#: SQLite locks this byte in the index of the log, so that no process initializes the index
#: again.
_IN_USE: Final = (128, 1)

_SET_LOCK: Final[int | None] = getattr(fcntl, "F_OFD_SETLK", None)

# The lock is reentrant, because garbage collection may close a connection while the same thread
# opens another one.
_lock = threading.RLock()
_connections: Counter[Identity] = Counter()


def keep(opened: Opened) -> bool:
    """Protect the log of a connection that has just been opened.

    :return: False if the connection has other files open. Then nothing is protected.
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
    """End the protection for a connection that is about to be closed.

    :param leave_log: whether SQLite must not remove the log, even if this is the last
        connection. SQLite would remove it by name, and the file with this name may be another
        one.
    """
    with _lock:
        _connections[opened.database] -= 1
        if _connections[opened.database] <= 0:
            del _connections[opened.database]
            if not leave_log:
                _set_locks(_descriptors()[opened.database], fcntl.F_UNLCK, _SHARED)


def taken_away_at(opened: Opened) -> int:
    """Return when a log and its index were deleted, in nanoseconds of the filesystem's clock.

    :return: 0 if the system does not provide this.
    """
    found = _descriptors()
    times = [0]
    for descriptor in (*found[opened.log], *found[opened.shared]):
        with suppress(OSError):
            times.append(os.stat(f"/proc/self/fd/{descriptor}").st_ctime_ns)
    return max(times)


def _descriptors() -> dict[tuple[int, int], list[int]]:
    """Return the descriptors of this process by device and inode, as far as the system lists
    them."""
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
    # A struct flock: kind, origin of the offset, start, length, and no process id.
    wanted = struct.pack("hhqqi0q", kind, os.SEEK_SET, *span, 0)
    for descriptor in descriptors:
        with suppress(OSError):
            fcntl.fcntl(descriptor, _SET_LOCK, wanted)


def _after_in_child() -> None:
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_after_in_child)

"""The location of the database file, the checks of its folder, and its creation."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from typing import Annotated
from typing import Any
from typing import Final
from typing import Literal
from typing import NamedTuple
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from ...config import redact_url
from ...config import Settings
from ...errors import ConfigurationError
from ...errors import ConnectionFailed
from ...loggers import get_logger

logger = get_logger(__name__)

#: Filesystems whose locks or shared memory do not work between machines. WAL needs both.
NETWORK_FILESYSTEMS: Final = frozenset(
    "nfs nfs4 cifs smb3 smbfs 9p afs ceph glusterfs lustre ncpfs coda gfs2 gpfs ocfs2"
    " beegfs davfs"
    " fuse.sshfs fuse.glusterfs fuse.ceph fuse.s3fs fuse.rclone fuse.gcsfuse"
    " fuse.davfs2 fuse.juicefs fuse.smbnetfs".split()
)

_PREFIX: Final = "sqlite:///"

#: An upper limit for the resolution of file times on any filesystem, in nanoseconds.
TICK: Final = 100_000_000


class Identity(NamedTuple):
    """Identifies the file at a path."""

    device: int
    inode: int


class Opened(NamedTuple):
    """The files that a connection has open: the database, its log, and the index of the log."""

    database: Identity
    log: Identity
    shared: Identity


class Found(NamedTuple):
    """The files that exist at a path."""

    database: Identity
    log: Identity | None
    shared: Identity | None


class Watch:
    """Checks whether the files at a path are still those that a connection has open.

    Creating, deleting or replacing a file changes the time of its folder. As long as this time
    stays the same, nothing else needs to be checked.

    :param path: the path of the database.
    """

    def __init__(self, path: str, opened: Opened) -> None:
        self.opened = opened
        self._path = path
        # If the path is a link, the time of its folder does not show changes of the file.
        self._folder = None if os.path.islink(path) else os.path.dirname(path)
        self._settled: tuple[int, int, int] | None = None

    def is_current(self) -> bool:
        """Return whether the files are still the same."""
        try:
            now = self._look_at_folder()
        except OSError:
            now = None
        if now is not None and now == self._settled:
            return True
        found = look_at(self._path)
        if found is None or tuple(found) != tuple(self.opened):
            return False
        # Folder times have a coarse resolution. A later change with the same time would not be
        # visible, so a recent time is not remembered.
        if now is not None and time.time_ns() - now[2] > TICK:
            self._settled = now
        return True

    def _look_at_folder(self) -> tuple[int, int, int] | None:
        if self._folder is None:
            return None
        found = os.stat(self._folder)
        return found.st_dev, found.st_ino, found.st_mtime_ns


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the URL's query or ``TASKQ_BROKER_OPTIONS`` may set for this engine.

    :param busy_timeout: how long a write waits for a write of another process, in milliseconds.
    :param synchronous: with ``full``, a job whose ``send()`` has returned survives a power
        failure. With ``normal``, it survives the death of every process, and sending is faster.
    """

    busy_timeout: Annotated[int, Meta(ge=0, le=3_600_000)] = 10_000
    synchronous: Literal["full", "normal"] = "full"


class Location(NamedTuple):
    """An absolute path, and the options of the engine."""

    path: str
    options: Options

    @classmethod
    def from_settings(cls, settings: Settings) -> Location:
        """Read the URL and the options. The options take precedence over the query of the URL.

        :raises ConfigurationError: the path is not absolute, or an option is not valid.
        """
        path, _, query = settings.broker_url.removeprefix(_PREFIX).partition("?")
        if not os.path.isabs(path) or path.endswith("/"):
            raise ConfigurationError(
                f"{settings.url_key}: {redact_url(settings.broker_url)!r} names no file by its"
                " absolute path, which takes four slashes: sqlite:////var/lib/app/taskq.sqlite3"
            )
        given: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
        given.update(settings.broker_options)
        return cls(os.path.normpath(path), _read_options(settings.option_keys, given))


def _read_options(where: str, given: dict[str, Any]) -> Options:
    for name in given:
        if name not in Options.__struct_fields__:
            raise ConfigurationError(
                f"{where}: the sqlite engine has no option {name!r}, only "
                + ", ".join(Options.__struct_fields__)
            )
    try:
        return msgspec.convert(given, Options, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{where}: {error}") from None


def identify(path: str) -> Identity | None:
    """Return the identity of the file at this path, or None if there is no file.

    This uses the path only. Closing any descriptor of a database file releases all locks that
    this process holds on it. Therefore no code in this module opens a file that SQLite may have
    open.

    :raises ConnectionFailed: this process has no permission to read the file's status.
    """
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConnectionFailed(_explain(path, "looked at", error)) from error
    return Identity(found.st_dev, found.st_ino)


def prepare(path: str) -> None:
    """Make sure that there is a usable file. A new file is private.

    :raises ConfigurationError: the folder or the file is not acceptable.
    :raises ConnectionFailed: the operating system denies access.
    """
    folder = os.path.dirname(path)
    try:
        _make_folders(folder)
        _check_folder(folder, path)
        _check_filesystem(folder)
        if identify(path) is None:
            _create(folder, path)
    except OSError as error:
        raise ConnectionFailed(_explain(path, "opened", error)) from error


def _explain(path: str, done: str, error: OSError) -> str:
    return (
        f"{path} cannot be {done}: {error.strerror or error}; the user of this process (uid"
        f" {os.geteuid()}) has to be able to write to {os.path.dirname(path)}: give it that"
        " right, or let TASKQ_BROKER_URL name another file"
    )


def _make_folders(folder: str) -> None:
    if not os.path.isdir(folder):
        _make_folders(os.path.dirname(folder))
        # Another process may create it first. The mode of an existing folder is not changed.
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)


def _check_folder(folder: str, path: str) -> None:
    if not os.stat(folder).st_mode & stat.S_IWOTH:
        return
    if not os.stat(folder).st_mode & stat.S_ISVTX:
        raise ConfigurationError(
            f"{folder} may be written by every user of this machine, who could then replace"
            f" the jobs in {path}; choose a private folder, or chmod o-w this one"
        )
    # In a folder such as /tmp no other user can replace this file, but any user may have
    # created it earlier.
    if os.path.lexists(path) and os.lstat(path).st_uid not in (os.geteuid(), 0):
        raise ConfigurationError(
            f"{path} belongs to another user and is in a folder that everybody may write;"
            " choose a private folder"
        )


def _check_filesystem(folder: str) -> None:
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            filesystem = find_filesystem(file.read(), os.path.realpath(folder))
    except OSError:
        return  # not Linux
    if filesystem in NETWORK_FILESYSTEMS:
        raise ConfigurationError(
            f"{folder} is on a network filesystem ({filesystem}), where"
            " SQLite cannot lock safely between machines; put the file on a local disk, or"
            " use an engine with a server to share jobs between machines"
        )
    if filesystem == "overlay":
        logger.warning(
            "%s is in a container's own layer (overlay): its jobs are gone when the container"
            " is removed, and no other container sees them; use a volume",
            folder,
        )


def find_filesystem(mountinfo: str, path: str) -> str | None:
    """Return the type of the filesystem that contains a path.

    :param mountinfo: the content of ``/proc/self/mountinfo``.
    :param path: an absolute path without symbolic links.
    """
    best, found = -1, None
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) < 5 or not right:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        # A later line for the same mount point hides the earlier one.
        if inside and len(point) >= best:
            best, found = len(point), right.split(" ")[0]
    return found


def look_at(path: str) -> Found | None:
    """Return the files that exist at this path now, or None if there is no database."""
    database = identify(path)
    if database is None:
        return None
    # If the path is a link, SQLite creates the side files beside the link's target.
    if os.path.islink(path):
        path = os.path.realpath(path)
    return Found(database, identify(f"{path}-wal"), identify(f"{path}-shm"))


def log_size(path: str) -> int:
    """Return the size of the log at this path in bytes, or 0 if there is no log."""
    try:
        return os.stat(f"{os.path.realpath(path)}-wal").st_size
    except OSError:
        return 0


def folder_time(path: str) -> int:
    """Return when a file in the same folder was last created or deleted, in nanoseconds.

    :raises ConnectionFailed: the time cannot be read.
    """
    folder = os.path.dirname(os.path.realpath(path))
    try:
        return os.stat(folder).st_mtime_ns
    except OSError as error:
        raise ConnectionFailed(f"{folder} is out of reach: {error.strerror}") from error


def remove_leftovers(path: str, opened: Opened) -> None:
    """Remove the side files of a database that was replaced by another one.

    SQLite would take the old log for that of the new database, and overwrite data that may just
    have been restored. This is only safe while the old connection is open, because until then
    no other file can have the inode number of an old file.
    """
    with suppress(OSError), _locked(os.path.dirname(path)):
        for suffix, old in (("-wal", opened.log), ("-shm", opened.shared)):
            if identify(path + suffix) == old:
                os.unlink(path + suffix)


def _create(folder: str, path: str) -> None:
    # Only one process at a time does this, so that none removes the side files of a new file
    # that another process has created.
    with _locked(folder) as descriptor:
        if identify(path) is not None:
            return
        # SQLite would read side files of a deleted database as part of the new one. Processes
        # that still have the old database open would share its index with this process.
        for suffix in ("-wal", "-shm", "-journal"):
            with suppress(FileNotFoundError):
                os.unlink(path + suffix)
        # The file is created here, because SQLite would take the mode from the umask. The side
        # files inherit the mode of this file.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        os.fsync(descriptor)


@contextmanager
def _locked(folder: str) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)

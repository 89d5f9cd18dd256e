"""Where the database file is, whether it may be there, and how it comes to be."""

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

#: Filesystems whose locks or shared memory do not hold between machines. WAL needs both.
NETWORK_FILESYSTEMS: Final = frozenset(
    "nfs nfs4 cifs smb3 smbfs 9p afs ceph glusterfs lustre ncpfs coda gfs2 gpfs ocfs2"
    " beegfs davfs"
    " fuse.sshfs fuse.glusterfs fuse.ceph fuse.s3fs fuse.rclone fuse.gcsfuse"
    " fuse.davfs2 fuse.juicefs fuse.smbnetfs".split()
)

_PREFIX: Final = "sqlite:///"

#: More than any tick of the clock that a filesystem stamps changes with, in nanoseconds.
TICK: Final = 100_000_000


class Identity(NamedTuple):
    """Which file a path leads to."""

    device: int
    inode: int


class Opened(NamedTuple):
    """The files that a connection has open: the database, its log, the log's index."""

    database: Identity
    log: Identity
    shared: Identity


class Found(NamedTuple):
    """The files that are at a path."""

    database: Identity
    log: Identity | None
    shared: Identity | None


class Watch:
    """Whether the files at a path are still those that a connection has open.

    A file cannot come, go or be replaced without a change of its folder's time. As long as
    that stands still, it is all that needs to be looked at.

    :param path: the database's.
    """

    def __init__(self, path: str, opened: Opened) -> None:
        self.opened = opened
        self._path = path
        # Of a link the folder says nothing.
        self._folder = None if os.path.islink(path) else os.path.dirname(path)
        self._settled: tuple[int, int, int] | None = None

    def is_current(self) -> bool:
        """Whether nothing has changed."""
        try:
            now = self._look_at_folder()
        except OSError:
            now = None
        if now is not None and now == self._settled:
            return True
        found = look_at(self._path)
        if found is None or tuple(found) != tuple(self.opened):
            return False
        # The folder's clock ticks slowly: what changes in the same tick is not to be seen.
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

    :param busy_timeout: how long a write waits for another process's, in milliseconds.
    :param synchronous: ``full``: a job whose ``send()`` returned survives a power cut;
        ``normal``: it survives the death of every process, and sending is faster.
    """

    busy_timeout: Annotated[int, Meta(ge=0, le=3_600_000)] = 10_000
    synchronous: Literal["full", "normal"] = "full"


class Location(NamedTuple):
    """An absolute path, and the options that came with it."""

    path: str
    options: Options

    @classmethod
    def from_settings(cls, settings: Settings) -> Location:
        """Read the URL and the options; the options win over the URL's query.

        :raises ConfigurationError: the path is not absolute, or an option is not one.
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
    """Which file is at this path now; None if there is none.

    By path only: closing any descriptor of a database file drops all locks that this
    process holds on it, so that nothing here ever opens a file that SQLite may have open.

    :raises ConnectionFailed: this process may not even look.
    """
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConnectionFailed(_explain(path, "looked at", error)) from error
    return Identity(found.st_dev, found.st_ino)


def prepare(path: str) -> None:
    """Make sure that there is a file that may be used, and that is private if it is new.

    :raises ConfigurationError: the place is refused.
    :raises ConnectionFailed: the operating system refuses.
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
        # Another process may be faster. The mode of an existing folder is not changed.
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
    # In a folder such as /tmp no user can replace our file, but any user could have made it
    # before us.
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
    """The type of the filesystem that holds a path.

    :param mountinfo: the text of ``/proc/self/mountinfo``.
    :param path: absolute, without symbolic links.
    """
    best, found = -1, None
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) < 5 or not right:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        # A later line for the same place was mounted over the earlier one.
        if inside and len(point) >= best:
            best, found = len(point), right.split(" ")[0]
    return found


def look_at(path: str) -> Found | None:
    """The files that are at this path now; None if there is no database."""
    database = identify(path)
    if database is None:
        return None
    # SQLite puts them beside the file itself, where the path is a link to it.
    if os.path.islink(path):
        path = os.path.realpath(path)
    return Found(database, identify(f"{path}-wal"), identify(f"{path}-shm"))


def log_size(path: str) -> int:
    """How many bytes the log at this path has; 0 if there is none."""
    try:
        return os.stat(f"{os.path.realpath(path)}-wal").st_size
    except OSError:
        return 0


def folder_time(path: str) -> int:
    """When a file beside this one last came or went, in nanoseconds.

    :raises ConnectionFailed: there is no saying.
    """
    folder = os.path.dirname(os.path.realpath(path))
    try:
        return os.stat(folder).st_mtime_ns
    except OSError as error:
        raise ConnectionFailed(f"{folder} is out of reach: {error.strerror}") from error


def remove_leftovers(path: str, opened: Opened) -> None:
    """Remove the side files of a database in whose place there is another one.

    SQLite would take the old log for the new database's, and write it over what somebody
    has just restored. Only while the old connection is open, so that no other file can
    have the number of one of these.
    """
    with suppress(OSError), _locked(os.path.dirname(path)):
        for suffix, old in (("-wal", opened.log), ("-shm", opened.shared)):
            if identify(path + suffix) == old:
                os.unlink(path + suffix)


def _create(folder: str, path: str) -> None:
    # One process at a time: none may take away the side files of another's new file.
    with _locked(folder) as descriptor:
        if identify(path) is not None:
            return
        # What is left of a deleted database would be read as part of the new one, and
        # processes that still have the old one open would share its index with us.
        for suffix in ("-wal", "-shm", "-journal"):
            with suppress(FileNotFoundError):
                os.unlink(path + suffix)
        # Created here, since SQLite would take the mode from the umask; its side files
        # inherit the mode of this one.
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

"""The file with the process id of the supervisor."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path
from typing import Final

#: Larger than any process id, whose C type has 32 bits.
_NO_PID: Final = 2**31

#: More than a process id has digits.
_LENGTH: Final = 64


class PidFileError(Exception):
    """The file cannot be used; the text says why."""


@contextmanager
def write_pid_file(path: Path | None) -> Iterator[None]:
    """Hold the file while the block runs.

    A lock shows whether a worker holds it. The system releases the lock when the process
    is gone, and not by the number in the file: after a crash, or in a container that was
    started again, another process may have that number.

    :param path: None does nothing.
    :raises PidFileError: another worker holds it, it has something else in it, or
        it cannot be written.
    """
    if path is None:
        yield
        return
    mine = f"{os.getpid()}\n".encode()
    try:
        descriptor = _open_locked(path)
    except BlockingIOError:
        raise PidFileError(_already_running(path)) from None
    except OSError as error:
        raise PidFileError(f"{path} cannot be written: {error}") from None
    try:
        _write(path, descriptor, mine)
        yield
    finally:
        # Before the lock is released: afterwards it could be the file of the next worker.
        with suppress(OSError):
            if _is_at(path, descriptor) and path.read_bytes() == mine:
                path.unlink()
        os.close(descriptor)


def _open_locked(path: Path) -> int:
    """A descriptor of the file, which is made if it is missing.

    :raises BlockingIOError: another process has locked it.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The process that had it locked may have removed it meanwhile.
            if _is_at(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _write(path: Path, descriptor: int, text: bytes) -> None:
    try:
        if not _is_pid(os.pread(descriptor, _LENGTH, 0)):
            raise PidFileError(f"{path} is not a pid file: not overwriting it")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text, 0)
    except OSError as error:
        raise PidFileError(f"{path} cannot be written: {error}") from None


def _is_pid(content: bytes) -> bool:
    """Whether this may be overwritten: a process id, or nothing, as after a power cut."""
    content = content.strip(b"\0 \n")
    if not content:
        return True
    return content.isdigit() and len(content) < _LENGTH // 2 and 0 < int(content) < _NO_PID


def _already_running(path: Path) -> str:
    try:
        pid = path.read_text().strip()
    except (OSError, ValueError):
        pid = ""
    who = f"process {pid}" if pid.isdigit() else "another worker"
    return f"{path}: {who} is running already"

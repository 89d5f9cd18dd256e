"""A file with a process id in it, for those who manage the process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path
from typing import Final

import click

#: Larger than any process id, whose C type has 32 bits.
_NO_PID: Final = 2**31


@contextmanager
def write_pid_file(path: Path | None) -> Iterator[None]:
    """Hold the file while the block runs. A file left by a dead process is taken over.

    :param path: None does nothing.
    :raises click.ClickException: a process that lives holds it, or it cannot be written.
    """
    if path is None:
        yield
        return
    holder = _read(path)
    if holder is not None and holder != os.getpid() and _is_alive(holder):
        raise click.ClickException(f"{path}: process {holder} is running already")
    mine = f"{os.getpid()}\n".encode()
    try:
        path.write_bytes(mine)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error}") from None
    try:
        yield
    finally:
        with suppress(OSError):
            if path.read_bytes() == mine:
                path.unlink()


def _read(path: Path) -> int | None:
    try:
        pid = int(path.read_text())
        # kill() takes 0 and negative numbers for groups of processes.
        if not 0 < pid < _NO_PID:
            raise ValueError(pid)
        return pid
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        raise click.ClickException(f"{path} is not a pid file: not overwriting it") from None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

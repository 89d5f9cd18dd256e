"""Wakes consumers in other processes, so that they do not need to poll the file frequently.

Each waiting consumer has a datagram socket in a folder beside the database. A process that has
stored something sends one byte to each socket. A lost byte does no harm, since consumers check
the file every 100 ms anyway. Problems with the sockets therefore raise no errors: if the folder
cannot be used, jobs from other processes start up to 100 ms later.
"""

from __future__ import annotations

import os
import secrets
import select
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from typing import Final

from ...loggers import get_logger
from . import fork_safety
from .files import TICK

logger = get_logger(__name__)

#: A unix socket's address is an array of 108 bytes with a zero at its end.
LONGEST_ADDRESS: Final = 107

#: Letters in the name of a socket.
NAME_LENGTH: Final = 8


class WakeUp:
    """The sending end: the folder with the sockets of all waiting consumers.

    :param path: the path of the database.
    """

    def __init__(self, path: str) -> None:
        self.folder = f"{path}.taskq"
        self._names: list[str] = []
        self._listed = 0  # the time of the folder when the names were read, or 0
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        fork_safety.watch(self)

    def notify(self) -> None:
        """Wake all waiting consumers."""
        try:
            names = self._list()
            if names:
                ours = self._opened()
                with reachable(self.folder) as prefix:
                    for name in names:
                        self._send(ours, prefix + name)
        except OSError:
            pass  # there is no consumer yet, or the folder cannot be used

    def close(self) -> None:
        """Close the socket."""
        with self._lock:
            ours, self._socket = self._socket, None
        if ours is not None:
            ours.close()

    def __del__(self) -> None:
        if getattr(self, "_socket", None) is not None:
            self.close()

    def _list(self) -> list[str]:
        changed = os.stat(self.folder).st_mtime_ns
        if changed != self._listed:
            names = os.listdir(self.folder)
            # Folder times have a coarse resolution. A list that was read right after a change
            # may lack another change with the same time, so it is not remembered.
            is_settled = time.time_ns() - changed > TICK
            self._names, self._listed = names, changed if is_settled else 0
        return self._names

    def _opened(self) -> socket.socket:
        with self._lock:
            if self._socket is None:
                self._socket = _datagram_socket()
            return self._socket

    def _send(self, ours: socket.socket, address: str) -> None:
        try:
            ours.sendto(b"\0", address)
        except ConnectionRefusedError:
            # Its process has died. Names are random, so this is not a newer socket.
            with suppress(OSError):
                os.unlink(address)
        except OSError:
            pass  # its buffer is full, so it is being woken already; or it was just closed

    def rest(self) -> Iterator[None]:
        return iter(())  # a socket that only sends can be shared with a child

    def after_fork_in_child(self) -> None:
        self._lock = threading.Lock()


class Listener:
    """The receiving end of one consumer. Its own process can also wake it.

    :param wakeup: the sending end.
    """

    def __init__(self, wakeup: WakeUp) -> None:
        self._folder = wakeup.folder
        self._lock = threading.Lock()
        self._receivers: list[socket.socket] = []
        self._waker: socket.socket | None = None
        self._path: str | None = None
        self._poll = select.poll()
        fork_safety.watch(self)

    def open(self) -> None:
        """Open the sockets: a wake-up between this and :meth:`wait` is not missed."""
        with self._lock:
            if self._waker is None:
                receiver, self._waker = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._waker.setblocking(False)
                self._listen_to(receiver)
                self._open_socket()

    def wait(self, timeout: float) -> bool:
        """Wait for a wake-up.

        :param timeout: the limit in milliseconds.
        :return: whether a wake-up arrived before the time ran out.
        """
        with self._lock:
            woken = self._poll.poll(max(0, timeout)) != []
            if woken:
                self._drain()
            return woken

    def wake(self) -> None:
        """End the present :meth:`wait`. If there is none, end the next one."""
        sender = self._waker
        if sender is not None:
            with suppress(OSError):  # the buffer is full: it is being woken already
                sender.send(b"\0")

    def close(self) -> None:
        """Stop listening."""
        self.wake()
        with self._lock:
            self._close_sockets(unlink=True)

    def __del__(self) -> None:
        if getattr(self, "_waker", None) is not None:
            self._close_sockets(unlink=True)

    # The following methods are called with the lock held.

    def _listen_to(self, receiver: socket.socket) -> None:
        receiver.setblocking(False)
        self._receivers.append(receiver)
        self._poll.register(receiver, select.POLLIN)

    def _drain(self) -> None:
        for receiver in self._receivers:
            with suppress(OSError):
                while receiver.recv(1):
                    pass

    def _open_socket(self) -> None:
        receiver = _datagram_socket()
        try:
            with suppress(FileExistsError):
                os.mkdir(self._folder, 0o700)
            _check_private(self._folder)
            name = secrets.token_hex(NAME_LENGTH // 2)
            with reachable(self._folder) as prefix:
                receiver.bind(prefix + name)
        except OSError as error:
            receiver.close()
            logger.warning(
                "no wake-up calls through %s (%s): jobs from other processes are found by"
                " looking, up to 100 ms later",
                self._folder,
                error,
            )
        else:
            self._path = os.path.join(self._folder, name)
            self._listen_to(receiver)

    def _close_sockets(self, *, unlink: bool) -> None:
        for receiver in self._receivers:
            self._poll.unregister(receiver)
            receiver.close()
        self._receivers.clear()
        if self._waker is not None:
            self._waker.close()
            self._waker = None
        if self._path is not None and unlink:
            with suppress(OSError):
                os.unlink(self._path)
        self._path = None

    # Around a fork; see the module ``forks``.

    def rest(self) -> Iterator[None]:
        return iter(())  # the child closes its copies, and the parent may continue to wait

    def after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
        # As long as a copy of its socket is open here, a dead parent would not be noticed.
        self._close_sockets(unlink=False)


@contextmanager
def reachable(folder: str) -> Iterator[str]:
    """Yield a prefix for the names of sockets in a folder, so that the address is not too long.

    :raises OSError: this system has no short address for the folder.
    """
    if len(os.fsencode(folder)) + 1 + NAME_LENGTH <= LONGEST_ADDRESS:
        yield f"{folder}/"
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/"
    finally:
        os.close(descriptor)


def _datagram_socket() -> socket.socket:
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    return ours


def _check_private(folder: str) -> None:
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.geteuid(), 0):
        raise OSError("it belongs to another user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError("others may write to it")

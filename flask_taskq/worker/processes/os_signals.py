"""Signals of the operating system, read from a socket."""

from __future__ import annotations

import faulthandler
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: Signals that order a worker to end, or to load its code again.
ORDERS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: A child starts with these blocked, until it has set its handlers.
LEFT_TO_THE_SUPERVISOR: Final = (*ORDERS, signal.SIGUSR1)

#: SIGCHLD is not handled itself: it ends a wait.
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class SignalReader:
    """Reads signals, in the order of their arrival.

    :param reader: a socket with a byte for each signal: its number.
    """

    def __init__(self, reader: socket.socket) -> None:
        self._reader = reader

    def fileno(self) -> int:
        """For selectors."""
        return self._reader.fileno()

    def read(self) -> list[int]:
        """The numbers of the signals that have arrived. Never waits."""
        try:
            return list(self._reader.recv(4096))
        except BlockingIOError:
            return []


@contextmanager
def catch_signals() -> Iterator[SignalReader]:
    """Send signals to a reader, so that they do not end the process.

    SIGUSR1 makes it show the stacks of its threads. A SIGHUP that is ignored stays
    ignored: ``nohup`` has started the command.
    """
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    old_handlers = {
        number: signal.signal(number, lambda *_: None)
        for number in _HANDLED
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    }
    old_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    faulthandler.register(signal.SIGUSR1, all_threads=True, chain=False)
    try:
        yield SignalReader(reader)
    finally:
        signal.set_wakeup_fd(old_fd)
        for number, handler in old_handlers.items():
            signal.signal(number, handler)
        faulthandler.unregister(signal.SIGUSR1)
        reader.close()
        writer.close()

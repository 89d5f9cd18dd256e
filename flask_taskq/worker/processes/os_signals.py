"""Signals of the operating system, as something to wait for among other things."""

from __future__ import annotations

import faulthandler
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: Signals that order a worker to end, or to load its code again.
ORDERS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: The supervisor blocks these until a child has said what they mean to it.
LEFT_TO_THE_SUPERVISOR: Final = (*ORDERS, signal.SIGUSR1)

#: SIGCHLD is not handled itself: it ends a wait.
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class SignalReader:
    """Where signals arrive, in their order.

    :param reader: a socket that has a byte for each, its number.
    """

    def __init__(self, reader: socket.socket) -> None:
        self._reader = reader

    def fileno(self) -> int:
        """For selectors."""
        return self._reader.fileno()

    def read(self) -> list[int]:
        """The numbers of those that have come since. Never waits."""
        try:
            return list(self._reader.recv(4096))
        except BlockingIOError:
            return []


@contextmanager
def catch_signals() -> Iterator[SignalReader]:
    """Let signals arrive at a reader instead of ending the process.

    SIGUSR1 makes it show the stacks of its threads. A SIGHUP that is ignored stays so: the
    command was started to outlive its terminal, as ``nohup`` does.
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

"""A line on which replies get lost."""

from __future__ import annotations

import socket
import threading
from typing import Self


class LossyLine:
    """Passes everything on to a server, but for a reply that it is told to lose: then it
    cuts that connection, when the server has done what it was asked.

    :param port: of the server; clients take :attr:`port` instead.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._lost = 0
        self._needle = b""
        self._changed = threading.Condition()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def lose(self, needle: str, replies: int = 1) -> None:
        """Lose the replies to the next requests in which this stands."""
        with self._changed:
            self._needle, self._lost = needle.encode(), replies

    @property
    def is_done(self) -> bool:
        """Whether all that was to be lost is lost."""
        return self._lost == 0

    def close(self) -> None:
        self._listener.close()
        for one in self._sockets:
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._server_port))
            self._sockets += (client, server)
            asked = threading.Event()
            for source, target in ((client, server), (server, client)):
                threading.Thread(
                    target=self._pump, args=(source, target, asked), daemon=True
                ).start()

    def _pump(
        self, source: socket.socket, target: socket.socket, asked: threading.Event
    ) -> None:
        is_request = target.getpeername()[1] == self._server_port
        try:
            while data := source.recv(1_000_000):
                if is_request and self._needle and self._needle in data:
                    with self._changed:
                        if self._lost:
                            self._lost -= 1
                            asked.set()
                elif not is_request and asked.is_set():
                    break
                target.sendall(data)
        except OSError:
            pass
        for one in (source, target):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

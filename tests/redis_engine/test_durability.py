"""Whether sending waits for the server's disk, on a server that can be asked to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pytest

from flask_taskq.errors import BrokerConnectionError
from tests.support.bench import Bench
from tests.support.redis_server import RedisServer

NEW_BENCH = Callable[..., Bench]


class WaitingLine:
    """Lets any server look as if it had WAITAOF, and answers that itself.

    :param port: of the server; clients take :attr:`port` instead.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        #: How often it was asked, and how many disks it says have it.
        self.asked = 0
        self.written = 1
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._server_port)) as server:
            threading.Thread(target=self._answer, args=(server, client), daemon=True).start()
            while data := _receive(client):
                if b"WAITAOF" in data:
                    self.asked += 1
                    client.sendall(b"*2\r\n:%d\r\n:0\r\n" % self.written)
                else:
                    server.sendall(data)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        while data := _receive(server):
            # The answer to COMMAND INFO, which says that there is no such command.
            for nothing in (b"*2\r\n*-1\r\n", b"*2\r\n$-1\r\n"):
                if data.startswith(nothing):
                    data = b"*2\r\n*1\r\n$7\r\nwaitaof\r\n" + data[len(nothing) :]
            client.sendall(data)


def _receive(source: socket.socket) -> bytes:
    try:
        return source.recv(1_000_000)
    except OSError:
        return b""


@pytest.fixture
def line(start_server: Callable[..., RedisServer]) -> Iterator[WaitingLine]:
    """A server that writes to its disk once a second, unless it is asked to be quicker."""
    line = WaitingLine(start_server(appendonly="yes", appendfsync="everysec").port)
    yield line
    line.close()


def connected(line: WaitingLine, new_bench: NEW_BENCH, **options: Any) -> Bench:
    bench = new_bench(f"redis://127.0.0.1:{line.port}/0", options=options)
    bench.engine.connect()
    return bench


def test_sending_returns_when_the_job_is_on_the_disk(
    line: WaitingLine, new_bench: NEW_BENCH
) -> None:
    """Once for a call, however many jobs it sends."""
    bench = connected(line, new_bench, durability="fsync")
    bench.send()
    assert line.asked == 1
    bench.send_many(3)
    assert line.asked == 2


def test_sending_is_refused_when_the_job_does_not_come_to_the_disk(
    line: WaitingLine, new_bench: NEW_BENCH
) -> None:
    """The call may be repeated, and the job is there once."""
    bench = connected(line, new_bench, durability="fsync")
    line.written = 0
    with pytest.raises(BrokerConnectionError):
        bench.send(id="a" * 32)
    assert line.asked >= 1


def test_sending_does_not_wait_for_the_disk_unless_it_is_to(
    line: WaitingLine, new_bench: NEW_BENCH
) -> None:
    """How durable it is then, the server's configuration says."""
    connected(line, new_bench).send()
    assert line.asked == 0

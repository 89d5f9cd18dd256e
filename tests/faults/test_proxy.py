"""The network that fails when it is told to, against a server that says everything twice."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from queue import SimpleQueue

import pytest

from tests.support.machine_time import machine_seconds

from .proxy import Proxy

#: A net under what must come, and the time in which something must not come, in seconds.
NET = 10.0
SILENCE = 0.2


class EchoServer:
    """Sends back what it gets, and says how connections end."""

    def __init__(self) -> None:
        #: For each connection that has ended: an error, or None for an orderly end.
        self.ends: SimpleQueue[OSError | None] = SimpleQueue()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        error = None
        with connection:
            try:
                while data := connection.recv(65_536):
                    connection.sendall(data)
            except OSError as reset:
                error = reset
        self.ends.put(error)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def server() -> Iterator[EchoServer]:
    """An echo server on a free port."""
    server = EchoServer()
    yield server
    server.close()


@pytest.fixture
def proxy(server: EchoServer) -> Iterator[Proxy]:
    """A proxy before it."""
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    """A connection through the proxy, which has been used."""
    with connect(proxy) as client:
        assert ask(client) == b"hello"
        yield client


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), NET)


def ask(client: socket.socket, text: bytes = b"hello") -> bytes:
    client.sendall(text)
    answer = b""
    while len(answer) < len(text) and (data := client.recv(65_536)):
        answer += data
    return answer


def test_what_is_sent_arrives(proxy: Proxy) -> None:
    """In order, and more than fits into one piece."""
    text = bytes(range(256)) * 4_000
    with connect(proxy) as client:
        writer = threading.Thread(target=client.sendall, args=(text,))
        writer.start()
        answer = b""
        while len(answer) < len(text):
            answer += client.recv(65_536)
        writer.join(NET)
    assert answer == text


def test_an_orderly_end_is_passed_on(
    client: socket.socket, server: EchoServer, proxy: Proxy
) -> None:
    """The server sees the end and no error, and so does the client."""
    client.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""
    assert server.ends.get(timeout=NET) is None


def test_a_cut_resets_both_sides(
    client: socket.socket, server: EchoServer, proxy: Proxy
) -> None:
    """Each gets an error at once, and a new connection works."""
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert isinstance(server.ends.get(timeout=NET), ConnectionResetError)
    with connect(proxy) as other:
        assert ask(other) == b"hello"


def test_a_blackhole_is_silent(client: socket.socket, proxy: Proxy) -> None:
    """No answer and no error, on an old connection and on a new one, until it ends."""
    proxy.blackhole()
    client.sendall(b"one")
    client.settimeout(SILENCE)
    with pytest.raises(TimeoutError):
        client.recv(1)
    with connect(proxy) as other:
        other.settimeout(SILENCE)
        other.sendall(b"two")
        with pytest.raises(TimeoutError):
            other.recv(1)
        proxy.heal()
        other.settimeout(NET)
        assert other.recv(10) == b"two"
    client.settimeout(NET)
    assert client.recv(10) == b"one"


def test_half_open_is_known_to_the_server_alone(
    client: socket.socket, server: EchoServer, proxy: Proxy
) -> None:
    """The client can still send, and hears neither an answer nor an error."""
    proxy.half_open()
    assert isinstance(server.ends.get(timeout=NET), ConnectionResetError)
    client.settimeout(SILENCE)
    client.sendall(b"hello")
    with pytest.raises(TimeoutError):
        client.recv(1)
    with connect(proxy) as other:
        assert ask(other) == b"hello"


def test_a_delay_holds_for_each_direction(client: socket.socket, proxy: Proxy) -> None:
    """An answer takes two of them, and ten questions at once no longer than one."""
    proxy.delay(0.1)
    began = time.monotonic()
    assert ask(client) == b"hello"
    once = time.monotonic() - began
    assert once >= 0.2
    began = time.monotonic()
    for _ in range(10):
        client.sendall(b"hello")
    answer = b""
    while len(answer) < 50:
        answer += client.recv(65_536)
    assert machine_seconds(began) < 10 * once
    proxy.heal()
    began = time.monotonic()
    assert ask(client) == b"hello"
    assert machine_seconds(began) < once


def test_a_server_that_seems_not_to_be_there_can_come_back(proxy: Proxy) -> None:
    """Connections are refused, and then made again under the same port."""
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.heal()
    with connect(proxy) as client:
        assert ask(client) == b"hello"

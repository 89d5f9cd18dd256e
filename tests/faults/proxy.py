"""What lies between a process and a server, and can go wrong there."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from collections.abc import Coroutine
from typing import Any
from typing import Self
from typing import TypeVar

T = TypeVar("T")

#: Makes closing a socket a reset: the other side is not told that all was read.
RESET = struct.pack("ii", 1, 0)

#: How long a call of the proxy's thread may take, in seconds.
PATIENCE = 10.0


class Link:
    """One connection: from the client to the proxy, and on to the server."""

    def __init__(
        self, client: asyncio.StreamWriter, server: asyncio.StreamWriter | None = None
    ) -> None:
        self.client = client
        self.server = server
        self.is_half_open = False


class Proxy:
    """A TCP proxy in a thread of its own, whose network fails when it is told to.

    :param port: of the server, on this machine; clients take :attr:`port` instead.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._latency = 0.0
        self._links: set[Link] = set()
        self._jobs: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._flows = self._call(self._make_event)
        self._listener = self._await(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._listener.sockets[0].getsockname()[1]

    # Faults

    def cut(self) -> None:
        """Reset every connection, towards both sides. New ones work."""

        def cut() -> None:
            for link in list(self._links):
                for writer in (link.client, link.server):
                    if writer is not None:
                        reset(writer)

        self._call(cut)

    def half_open(self) -> None:
        """Reset every connection towards the server; the client hears nothing of it, nor of
        anything else. New ones work."""

        def half_open() -> None:
            for link in list(self._links):
                link.is_half_open = True
                if link.server is not None:
                    reset(link.server)

        self._call(half_open)

    def blackhole(self) -> None:
        """Pass nothing on, and tell nobody, until :meth:`heal`. A new connection seems to
        be made, and nothing answers on it."""
        self._call(lambda: self._flows.clear())

    def delay(self, seconds: float) -> None:
        """Pass everything on so much later, in each direction."""
        self._latency = seconds

    def refuse(self) -> None:
        """Refuse new connections until :meth:`heal`, as if no server were there."""
        self._call(self._listener.close)

    def heal(self) -> None:
        """End a blackhole, a delay and a refusal. What was held back is passed on."""
        self._latency = 0.0
        self._call(lambda: self._flows.set())
        if not self._listener.is_serving():
            self._listener = self._await(
                asyncio.start_server(self._serve, "127.0.0.1", self.port)
            )

    # Life

    def close(self) -> None:
        """End all connections and the thread."""
        self._call(self._listener.close)
        self.cut()
        self._await(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _end(self) -> None:
        for job in list(self._jobs):
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    def _call(self, function: Callable[[], T]) -> T:
        async def call() -> T:
            return function()

        return self._await(call())

    def _await(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    def _make_event(self) -> asyncio.Event:
        event = asyncio.Event()
        event.set()
        return event

    # Passing on

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        link = Link(client)
        self._links.add(link)
        job = asyncio.current_task()
        assert job is not None
        self._jobs.add(job)
        try:
            await self._flows.wait()
            from_server, link.server = await asyncio.open_connection(
                "127.0.0.1", self._server_port
            )
            await asyncio.gather(
                self._pump(link, reader, link.server), self._pump(link, from_server, client)
            )
        except (OSError, asyncio.CancelledError):
            pass  # what a connection is cut by, on either side
        finally:
            self._links.discard(link)
            self._jobs.discard(job)
            for writer in (link.client, link.server):
                if writer is not None:
                    reset(writer)

    async def _pump(
        self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Pass on one direction; each piece has its own delay, as on a long line."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def collect() -> None:
            data = b"-"
            while data:
                try:
                    data = await reader.read(65_536)
                except OSError:
                    if not link.is_half_open:
                        raise
                    data = b""
                pieces.put_nowait((self._loop.time() + self._latency, data))

        async def deliver() -> None:
            data = b"-"
            while data:
                at, data = await pieces.get()
                await asyncio.sleep(at - self._loop.time())
                await self._flows.wait()
                if link.is_half_open:
                    if writer is link.client:
                        return  # the client is not told that the server is gone
                    continue  # what it still says is heard by nobody
                if data:
                    writer.write(data)
                    await writer.drain()
                elif writer.can_write_eof():
                    writer.write_eof()

        await asyncio.gather(collect(), deliver())


def reset(writer: asyncio.StreamWriter) -> None:
    """Close one side without a farewell."""
    held = writer.get_extra_info("socket")
    if held is not None and held.fileno() >= 0:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()

"""The resources that the parts of the engine share: server, connections and settings."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from typing import Final
from typing import NamedTuple
from typing import TypeVar

from ...clock import Clock
from ...config import Settings
from ...errors import BrokerConnectionError
from ...errors import ConnectionFailed
from ...jobs.lifecycle import Retention
from .connection import RedisConnection
from .lease_ages import LeaseAges
from .options import Location
from .packing import Packer
from .script_source import Script
from .server import Server

T = TypeVar("T")

#: After a failed call, other calls fail at once for this time, in seconds. Without this, every
#: thread of a web server would soon wait for a server that cannot be reached.
_DOWN: Final = 1.0

#: How often a thread that waits for a connection tries to open one, in seconds.
_LOOK_AGAIN: Final = 0.05


class Store:
    """The keys of one app on a server, as this process uses them. It connects when it is first
    used."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.packer = Packer(Retention.from_settings(settings))
        self.prefix = f"{{{settings.namespace}}}:"
        self.server = Server(Location.from_settings(settings), clock, self.prefix)
        #: The value of each worker's last lease renewal.
        self.renewals = LeaseAges(clock)
        self._limit = self.server.options.max_connections
        self._timeout = self.server.options.timeout / 1000
        self._begin()
        _stores.add(self)

    def _begin(self) -> None:
        self._free: list[RedisConnection] = []
        # All shared connections. If an asynchronous exception prevents the return of a
        # connection, no reference to it is left. It then also disappears from this set, so that
        # another one may be opened.
        self._connections: weakref.WeakSet[RedisConnection] = weakref.WeakSet()
        # Only "with" statements take this lock. They do so in C code, which an exception cannot
        # interrupt, unlike the methods of a condition.
        self._lock = threading.Lock()
        # Locked while a thread waits for a connection. _release() unlocks it.
        self._bell = threading.Lock()
        self._down_until = 0.0
        self._trouble: BrokerConnectionError | None = None

    def new_connection(self) -> RedisConnection:
        """Return a new connection that is not shared."""
        return RedisConnection(self.server, self.prefix)

    def run(self, script: Script, *args: bytes | str | int, is_durable: bool = False) -> Any:
        """Run a script over one of the shared connections.

        :raises BrokerConnectionError: there was no reply in time, or a recent call has failed
            for this reason.
        """
        return self.use(RedisConnection.run, script, args, is_durable)

    def command(self, *words: bytes | str | int) -> Any:
        """Run a command over one of the shared connections."""
        return self.use(RedisConnection.command, *words)

    def now(self) -> int:
        """Return the server's time, in milliseconds since the epoch."""
        if self.server.is_time_old:
            self.use(RedisConnection.measure_time)
        return self.server.now()

    def use(self, work: Callable[..., T], *args: Any) -> T:
        """Call ``work`` with one of the shared connections as its first argument."""
        if self._trouble is not None:
            self._check_trouble(self._trouble)
        connection = self._try_to_take() or self._take()
        try:
            done = work(connection, *args)
        except BrokerConnectionError as error:
            self._trouble = error
            self._down_until = time.monotonic() + _DOWN
            raise
        finally:
            self._release(connection)
        self._trouble = None
        return done

    def _check_trouble(self, trouble: BrokerConnectionError) -> None:
        now = time.monotonic()
        if now < self._down_until:
            raise type(trouble)(*trouble.args) from trouble.__cause__
        # This call tries the server again. Meanwhile other calls continue to fail at once.
        self._down_until = now + _DOWN

    @property
    def _count(self) -> int:
        """The number of shared connections, in use or free."""
        return len(self._connections)

    def _take(self) -> RedisConnection:
        until = time.monotonic() + self._timeout
        while (left := until - time.monotonic()) > 0:
            self._bell.acquire(blocking=False)
            connection = self._try_to_take()
            if connection is not None:
                return connection
            # The wait is split into short intervals, because no wake-up reports a lost
            # connection.
            self._bell.acquire(timeout=min(left, _LOOK_AGAIN))
        raise ConnectionFailed(
            f"{self.server.location.where}: all {self._limit} connections of"
            " this process are in use; the option max_connections allows more"
        )

    def _try_to_take(self) -> RedisConnection | None:
        with self._lock:
            if self._free:
                return self._free.pop()
            if self._count >= self._limit:
                return None
            connection = self.new_connection()
            self._connections.add(connection)
            return connection

    def _release(self, connection: RedisConnection) -> None:
        self._free.append(connection)
        if self._bell.locked():
            with suppress(RuntimeError):  # another thread has already released it
                self._bell.release()

    def close(self) -> None:
        """Close the shared connections that are not in use."""
        with self._lock:
            free, self._free = self._free, []
            for connection in free:
                self._connections.discard(connection)
        for connection in free:
            connection.close()

    def after_fork_in_child(self) -> None:
        """Start again without connections, because the existing ones belong to the parent."""
        for connection in list(self._connections):
            connection.abandon()
        self._begin()
        self.server.after_fork_in_child()


class Renewal(NamedTuple):
    """The value that a worker writes when it renews its lease.

    :param number: a number that is different for each renewal.
    :param lease: the length of the lease, in milliseconds.
    :param until: the end of the lease by the server's clock. That clock may be set, so this is
        not used to decide whether a worker is dead.
    """

    number: int
    lease: int
    until: int


def read_renewal(word: bytes) -> Renewal:
    """Decode the value of a renewal from the server."""
    return Renewal(*map(int, word.split(b":")))


_stores: weakref.WeakSet[Store] = weakref.WeakSet()


def _after_in_child() -> None:
    for store in list(_stores):
        store.after_fork_in_child()


os.register_at_fork(after_in_child=_after_in_child)

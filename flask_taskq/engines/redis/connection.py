"""A connection to the server. One thread at a time uses it."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import Final
from typing import NamedTuple
from typing import TypeVar

from redis import exceptions

from .errors import is_transient
from .errors import spares_connection
from .errors import translate
from .script_source import Script
from .server import Server
from .server_checks import Connection

T = TypeVar("T")

#: How long to wait before a call is repeated, in seconds: the first wait, and the longest one.
_FIRST_PAUSE: Final = 0.01
_LAST_PAUSE: Final = 0.25


class RedisConnection:
    """A connection that is opened when it is first needed, and again after it was lost.

    The server may run a call twice, if the first reply is lost.

    :param prefix: the beginning of every key.
    """

    def __init__(self, server: Server, prefix: str) -> None:
        self._server = server
        self._prefix = prefix.encode()
        self._connection: Connection | None = None
        # Whether a call was sent whose reply was not read completely. This is set before the
        # call and cleared afterwards. An asynchronous exception leaves it set, even if it
        # occurs in an exception handler. This prevents a caller from reading the reply to
        # another call.
        self._is_asked = False
        self._timeout = server.options.timeout / 1000

    def run(self, script: Script, args: Sequence[Argument], is_durable: bool = False) -> Any:
        """Run a script, and return its reply.

        :param is_durable: if the option ``durability`` requires it, return only when the writes
            are on the server's disk.
        :raises BrokerConnectionError: there was no reply within the option ``timeout``.
        :raises BrokerError: the server returned an error.
        """
        call = pack(b"EVALSHA", script.sha, b"1", self._prefix, *args)
        return self._repeat(self._run, script, call, args, is_durable)

    def command(self, *arguments: Argument) -> Any:
        """Run a command, with the same errors as :meth:`run`."""
        call = pack(*arguments)
        return self._repeat(self._ask, call)

    def connect(self) -> None:
        """Connect, with only one attempt.

        :raises BrokerConnectionError: the server cannot be reached.
        :raises ConfigurationError: the server cannot be used.
        """
        self.close()
        try:
            self._connected(self._timeout)
        except (exceptions.RedisError, OSError) as error:
            self._give_up(error)
            raise translate(error, self._server.location.where, opening=True) from error

    def measure_time(self) -> None:
        """Make sure that a recent measurement of the server's time exists."""
        if self._connection is None or self._server.is_time_old:
            self._repeat(self._measure)

    def wait(self, keys: Sequence[str], timeout: float, bell: int) -> None:
        """Wait until one of these lists has an element, and remove it.

        :param timeout: the limit in milliseconds.
        :param bell: a file descriptor that ends the wait when it becomes readable. The
            connection is closed in this case, since the reply to the blocking command may still
            arrive.
        """
        # The timeout is rounded up, so that a job that is due at its end is due when the wait
        # is over. Redis 6.2 rounds down, and would turn one millisecond into zero, which means
        # no limit.
        seconds = max(2, math.ceil(timeout)) / 1000
        call = pack(b"BLPOP", *keys, f"{seconds:.3f}")
        try:
            connection = self._connected(self._timeout)
            self._is_asked = True
            connection.send_packed_command([call])
            poll = select.poll()
            poll.register(connection._sock, select.POLLIN)
            poll.register(bell, select.POLLIN)
            ready = {fd for fd, _ in poll.poll((seconds + self._timeout) * 1000)}
            if bell in ready and len(ready) == 1:
                self.close()
            elif not ready:
                raise exceptions.TimeoutError("nothing came for longer than was waited")
            else:
                connection.read_response(disable_decoding=True)
                self._is_asked = False
        except (exceptions.RedisError, OSError) as error:
            self._give_up(error)
            if not is_transient(error) or isinstance(error, exceptions.TimeoutError):
                raise translate(error, self._server.location.where) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        self._is_asked = False
        if connection is not None:
            connection.disconnect()

    def abandon(self) -> None:
        """Forget a connection that another process also has, without closing it."""
        self._connection = None
        self._is_asked = False

    # --- Repeated attempts ---

    def _repeat(self, work: Callable[..., T], *args: Any) -> T:
        until = time.monotonic() + self._timeout
        pause = _FIRST_PAUSE
        left = self._timeout
        while True:
            is_open = False
            try:
                self._connected(left)
                is_open = True
                return work(*args)
            except (exceptions.RedisError, OSError) as error:
                self._give_up(error)
                left = until - time.monotonic() - pause
                if left <= 0 or not is_transient(error):
                    where = self._server.location.where
                    raise translate(error, where, opening=not is_open) from error
            except BaseException:
                # A reply may still arrive that no caller will read.
                self.close()
                raise
            time.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE)

    def _connected(self, timeout: float) -> Connection:
        if self._is_asked:
            self.close()
        connection = self._connection
        if connection is None:
            connection = self._connection = self._server.open(timeout)
            connection._sock.settimeout(timeout)
        elif timeout < self._timeout:
            connection._sock.settimeout(timeout)
        return connection

    def _give_up(self, error: BaseException) -> None:
        self._server.follow(error)
        if spares_connection(error):
            self._is_asked = False  # the error was the reply
        else:
            self.close()

    # --- Calls ---

    def _run(
        self,
        script: Script,
        call: bytes,
        args: Sequence[Argument],
        is_durable: bool,
    ) -> Any:
        try:
            reply = self._ask(call)
        except exceptions.NoScriptError:
            # The server was restarted, or another server has replaced it.
            call = pack(b"EVAL", script.source, b"1", self._prefix, *args)
            reply = self._ask(call)
        if is_durable and self._server.waits_for_disk:
            self._wait_for_disk()
        return reply

    def _ask(self, call: bytes) -> Any:
        connection = self._connection
        assert connection is not None
        self._is_asked = True
        connection.send_packed_command([call], False)
        reply = connection.read_response(True)
        self._is_asked = False
        return reply

    def _wait_for_disk(self) -> None:
        written, _ = self._ask(pack(b"WAITAOF", 1, 0, int(self._timeout * 1000)))
        if written < 1:
            raise exceptions.TimeoutError("what was sent did not come to the disk")

    def _measure(self) -> None:
        assert self._connection is not None
        self._is_asked = True
        self._server.measure(self._connection)
        self._is_asked = False


class Packed(NamedTuple):
    """Arguments of a command, encoded for the server.

    :param number: the number of words.
    """

    number: int
    data: bytes


#: The parts of a command.
Argument = bytes | str | int | Packed


def pack(*arguments: Argument) -> bytes:
    """Encode a command for the server."""
    count = len(arguments)
    parts = [b""]
    for argument in arguments:
        if isinstance(argument, Packed):
            count += argument.number - 1
            parts.append(argument.data)
            continue
        if not isinstance(argument, bytes):
            argument = str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(argument), argument))
    parts[0] = b"*%d\r\n" % count
    return b"".join(parts)

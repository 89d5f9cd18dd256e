"""The messages between a supervisor and its children, over one socket for each child."""

from __future__ import annotations

import os
import select
import socket
import threading
from contextlib import suppress
from typing import Any
from typing import Final
from typing import Literal

import msgspec

from ...config import Settings
from ...jobs.record import Lane

_CHUNK: Final = 65_536

#: The largest message, in bytes. A traceback is some thousands.
_LONGEST: Final = 16 * 1024 * 1024


class ChildSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a child gets on its command line.

    :param worker_id: the name under which it registers.
    :param channel: descriptor of its end of the socket.
    :param slots: descriptor of its slot table.
    :param threads: how many jobs it runs at the same time.
    :param queues: names of queues; None for those of all actors.
    :param grace: milliseconds that running jobs get if the supervisor dies; None for
        ``TASKQ_GRACE``.
    :param connect_timeout: milliseconds to reach the engine in; 0 for no limit.
    :param max_jobs: it asks to be replaced after about so many runs; None for no limit.
    :param max_memory: it asks to be replaced at so many bytes of resident memory; None for
        no limit.
    :param lane: it runs the jobs in this lane.
    :param check: build the app, report what was found, and end.
    """

    worker_id: str
    channel: int = -1
    slots: int = -1
    threads: int
    queues: list[str] | None
    grace: int | None
    connect_timeout: int
    max_jobs: int | None = None
    max_memory: int | None = None
    lane: Lane = Lane.ORDINARY
    check: bool = False


class Configured(msgspec.Struct, frozen=True, tag=True):
    """Child: the app is built and has this configuration.

    :param queues: those that are declared.
    :param actors: names of actors, and the queue of each.
    """

    settings: Settings
    queues: list[str]
    actors: dict[str, str]


class Checked(msgspec.Struct, frozen=True, tag=True):
    """Child of ``worker --check``: what else it found.

    :param modules: those that were imported for actors, or have some.
    :param warnings: those that building the app raised.
    """

    modules: list[str]
    warnings: list[str]


class Serves(msgspec.Struct, frozen=True, tag=True):
    """Child: it also serves these queues now, of actors that were declared after its start."""

    queues: list[str]


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Child: it fetches jobs from now on."""


class Refused(msgspec.Struct, frozen=True, tag=True):
    """Child: it cannot start.

    :param reason: ``usage``: another try would fail, too. ``engine``: the engine cannot be
        reached. ``app``: building the app raised an exception.
    """

    reason: Literal["usage", "engine", "app"]
    text: str


class ReplaceRequest(msgspec.Struct, frozen=True, tag=True):
    """Child: it asks to be replaced.

    :param reason: for the log.
    :param urgent: it fetches nothing any more. Otherwise it continues until another child
        is ready and the supervisor orders it to end.
    :param soon: its successor will probably ask as early.
    """

    reason: str
    urgent: bool = False
    soon: bool = False


class Drain(msgspec.Struct, frozen=True, tag=True):
    """Supervisor: fetch nothing more, finish the running jobs, and end. A stricter order may
    follow.

    :param grace: milliseconds that running jobs get; None for as long as they take.
    """

    grace: int | None


class Quit(msgspec.Struct, frozen=True, tag=True):
    """Supervisor: release everything and end at once."""


class Died(msgspec.Struct, frozen=True, tag=True):
    """Supervisor: another child has died; the app's hooks and signals are called.

    :param exit_code: negative for the number of the signal that killed it.
    :param jobs: ids of the jobs that it was running.
    """

    worker_id: str
    exit_code: int
    jobs: list[str]


ControlMessage = (
    Configured | Checked | Serves | Ready | Refused | ReplaceRequest | Drain | Quit | Died
)

_encoder: Final = msgspec.json.Encoder()
_decoder: Final[msgspec.json.Decoder[ControlMessage]] = msgspec.json.Decoder(ControlMessage)


class UnreadableMessageError(Exception):
    """The other end has sent bytes that are no message."""


class ControlChannel:
    """One end of the socket between a supervisor and a child.

    A job may write to it, or close it, by mistake: it has the descriptors of its process.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._identity = _identify(end.fileno())
        self._buffer = b""
        # Several threads send.
        self._lock = threading.Lock()
        #: Whether the other end may still send.
        self.is_open = True

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def is_read(self) -> bool:
        """Whether a short message can be sent without waiting for the other end to read."""
        return bool(select.select([], [self], [], 0)[1])

    def send(self, message: ControlMessage) -> None:
        """Send a message. If the other end is closed, it is dropped."""
        line = _encode(message) + b"\n"
        with self._lock:
            try:
                self._socket.sendall(line)
            except OSError:
                self.is_open = False

    def is_whole(self) -> bool:
        """Whether its descriptor is still that of its socket."""
        return _identify(self.fileno()) == self._identity

    def receive(self) -> list[ControlMessage]:
        """The messages that have arrived; waits for the first one, or the end.

        :raises UnreadableMessageError: the bytes are no message. Later ones may be lost, too.
        """
        try:
            chunk = self._socket.recv(_CHUNK)
        except OSError:
            chunk = b""
        if not chunk:
            self.is_open = False
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        try:
            messages = [_decoder.decode(line) for line in lines]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnreadableMessageError(f"bytes that are no message: {error}") from None
        if len(self._buffer) > _LONGEST:
            self._buffer = b""
            raise UnreadableMessageError("a message without an end")
        return messages

    def leave_open(self) -> None:
        """Keep it open until the process ends."""
        with suppress(OSError):  # a job has used up all descriptors
            os.dup(self.fileno())

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


def _encode(message: ControlMessage) -> bytes:
    try:
        return _encoder.encode(message)
    except UnicodeEncodeError:
        # Half a surrogate pair, as in the name of a file that is not UTF-8.
        return _encoder.encode(_escape(msgspec.to_builtins(message)))


def _escape(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_escape(key): _escape(one) for key, one in value.items()}
    return [_escape(one) for one in value] if isinstance(value, (list, tuple)) else value


def _identify(descriptor: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino

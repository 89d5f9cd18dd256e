"""What a supervisor and its children say to each other, over one socket each."""

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

#: What a word may come to at the most, in bytes. A traceback is some thousands.
_LONGEST: Final = 16 * 1024 * 1024


class ChildSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a child is told on its command line.

    :param worker_id: the name under which it registers.
    :param link: descriptor of its end of the socket.
    :param slots: descriptor of its slot table.
    :param threads: how many jobs it runs at the same time.
    :param queues: names of queues; None for those of all actors.
    :param grace: milliseconds that running jobs get if the supervisor dies; None for
        ``TASKQ_GRACE``.
    :param connect_timeout: milliseconds to reach the engine in; 0 for no limit.
    :param max_jobs: about how many runs of jobs make it worn; None for no limit.
    :param max_memory: how many bytes of resident memory do; None for no limit.
    :param lane: whose jobs it runs.
    :param check: build the app, say what is found, and end.
    """

    worker_id: str
    link: int = -1
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
    """Child: the app is built, and this is its configuration.

    :param queues: those that are declared.
    :param actors: names of actors, and the queue of each.
    """

    settings: Settings
    queues: list[str]
    actors: dict[str, str]


class Checked(msgspec.Struct, frozen=True, tag=True):
    """Child that checks: what there is to say besides.

    :param modules: those that were imported for actors, or have some.
    :param warnings: what building the app has warned of.
    """

    modules: list[str]
    warnings: list[str]


class Serves(msgspec.Struct, frozen=True, tag=True):
    """Child: from now on it serves these queues, too, of actors that were declared late."""

    queues: list[str]


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Child: jobs are being fetched."""


class Refused(msgspec.Struct, frozen=True, tag=True):
    """Child: it cannot work.

    :param reason: ``usage``: nothing will change that. ``engine``: the engine is out of
        reach. ``app``: building the app raised.
    """

    reason: Literal["usage", "engine", "app"]
    text: str


class Worn(msgspec.Struct, frozen=True, tag=True):
    """Child: it wants to be replaced.

    :param reason: why, for the log.
    :param urgent: it fetches nothing any more. Otherwise it goes on as before until it is
        told to end, which is when another one is ready.
    :param soon: it was worn so early that another one will be, too.
    """

    reason: str
    urgent: bool = False
    soon: bool = False


class Drain(msgspec.Struct, frozen=True, tag=True):
    """Supervisor: fetch nothing more, finish, end. A stricter order may follow.

    :param grace: milliseconds that running jobs get; None for as long as they take.
    """

    grace: int | None


class Quit(msgspec.Struct, frozen=True, tag=True):
    """Supervisor: give back everything and end at once."""


class Died(msgspec.Struct, frozen=True, tag=True):
    """Supervisor: another child has died, which the app may want to know.

    :param exit_code: negative for the number of the signal that killed it.
    :param jobs: ids of the jobs that it was running.
    """

    worker_id: str
    exit_code: int
    jobs: list[str]


Word = Configured | Checked | Serves | Ready | Refused | Worn | Drain | Quit | Died

_encoder: Final = msgspec.json.Encoder()
_decoder: Final[msgspec.json.Decoder[Word]] = msgspec.json.Decoder(Word)


class GarbledError(Exception):
    """Something came over a link that no other end of it says."""


class Link:
    """One end of the socket between a supervisor and a child.

    A job that writes to, or closes, a descriptor which is not its own may hit it.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._identity = _identify(end.fileno())
        self._buffer = b""
        # Several threads may have something to say.
        self._lock = threading.Lock()
        #: Whether the other end may still say something.
        self.is_open = True

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def is_read(self) -> bool:
        """Whether something short can be said without waiting for the other end to listen."""
        return bool(select.select([], [self], [], 0)[1])

    def send(self, word: Word) -> None:
        """Say something. If nobody listens any more, nothing happens."""
        line = _encode(word) + b"\n"
        with self._lock:
            try:
                self._socket.sendall(line)
            except OSError:
                self.is_open = False

    def is_whole(self) -> bool:
        """Whether its descriptor is still that of its socket."""
        return _identify(self.fileno()) == self._identity

    def receive(self) -> list[Word]:
        """What the other end has said since; waits until it says something or closes.

        :raises GarbledError: it was nothing that makes sense. What follows may be neither.
        """
        try:
            chunk = self._socket.recv(_CHUNK)
        except OSError:
            chunk = b""
        if not chunk:
            self.is_open = False
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        try:
            words = [_decoder.decode(line) for line in lines]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise GarbledError(f"something else than a report: {error}") from None
        if len(self._buffer) > _LONGEST:
            self._buffer = b""
            raise GarbledError("something without an end")
        return words

    def leave_open(self) -> None:
        """Let it be closed by the system, with the end of the process, and not before."""
        with suppress(OSError):  # a job has used up all descriptors
            os.dup(self.fileno())

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


def _encode(word: Word) -> bytes:
    try:
        return _encoder.encode(word)
    except UnicodeEncodeError:
        # Half a surrogate pair, as in the name of a file that is not UTF-8.
        return _encoder.encode(_escape(msgspec.to_builtins(word)))


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

"""What a supervisor and its children say to each other, over one socket each."""

from __future__ import annotations

import select
import socket
import threading
from typing import Final
from typing import Literal

import msgspec

from ..config import Settings

_CHUNK: Final = 65_536


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
    :param isolated: whether it is there for one job that must run alone.
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
    isolated: bool = False
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


class Link:
    """One end of the socket between a supervisor and a child."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
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
        line = _encoder.encode(word) + b"\n"
        with self._lock:
            try:
                self._socket.sendall(line)
            except OSError:
                self.is_open = False

    def receive(self) -> list[Word]:
        """What the other end has said since; waits until it says something or closes."""
        try:
            chunk = self._socket.recv(_CHUNK)
        except OSError:
            chunk = b""
        if not chunk:
            self.is_open = False
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        return [_decoder.decode(line) for line in lines]

    def close(self) -> None:
        """Close this end."""
        self._socket.close()

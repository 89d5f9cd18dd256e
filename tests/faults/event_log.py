"""The history as it is written, outside of the engine, by every process."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

#: A net under tests that wait for something which never comes, in seconds.
NET = 60.0

Event = dict[str, Any]


def append(folder: Path, event: str, **details: object) -> None:
    """Add a line to the history, and then ring, for those who wait for it.

    One write to a file opened for appending: lines of processes that write at the same time
    do not mix, and what was written outlives a process that is killed right after it.
    """
    details |= {"event": event, "pid": details.get("pid", os.getpid()), "at": time.monotonic()}
    line = json.dumps(details).encode() + b"\n"
    file = os.open(folder / "history", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line)
    finally:
        os.close(file)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        # With a full queue of rings there is one yet to be answered, by a look at the file.
        with suppress(OSError):
            sender.sendto(b"1", str(folder / "bell"))


class Follower:
    """Reads the history while it is written. Waiting is for an event, never for a time."""

    def __init__(self, folder: Path) -> None:
        self.events: list[Event] = []
        self._path = folder / "history"
        self._path.touch(0o600)
        self._file = self._path.open("rb")
        self._rest = b""
        self._changed = threading.Condition()
        self._bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._bell.bind(str(folder / "bell"))
        self._folder = folder
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while self._bell.recv(16) != b"0":
            self._read()

    def _read(self) -> None:
        with self._changed:
            *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
            self.events += map(json.loads, lines)
            self._changed.notify_all()

    def all(self) -> list[Event]:
        """Every event until now, also of processes that did not come to ring."""
        self._read()
        with self._changed:
            return list(self.events)

    def wait_for(
        self, event: str, count: int = 1, *, where: Callable[[Event], bool] = lambda _: True
    ) -> list[Event]:
        """Wait until there are so many events of a name.

        :return: all of them.
        """

        def found() -> list[Event]:
            return [one for one in self.events if one["event"] == event and where(one)]

        with self._changed:
            done = self._changed.wait_for(lambda: len(found()) >= count, NET)
            assert done, f"{event!r} came {len(found())} times, not {count}"
            return found()

    def close(self) -> None:
        """End the thread."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"0", str(self._folder / "bell"))
        self._thread.join(NET)
        self._bell.close()
        self._file.close()

"""Real supervisors, and an ear for what their jobs and logs say."""

from __future__ import annotations

import itertools
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence
from contextlib import ExitStack
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

#: For tests that say the same of each engine that workers can share.
ON_EVERY_ENGINE = pytest.mark.parametrize("broker_url", ["sqlite", "redis"], indirect=True)

APP = Path(__file__).with_name("app.py")

#: A lease for tests about leases, in seconds. Elsewhere workers have the usual one: a machine
#: that stands still for a moment takes nobody's jobs.
LEASE = 2.0

READY = r"process (\d+) is ready"

#: A net under tests that wait for something which never comes, in seconds, and in milliseconds
#: for waits of the package.
NET = 60.0
PATIENCE = 60_000


class Recorder:
    """Collects what jobs tell. Waiting is for an event, never for a time."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "r")
        self.events: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._marks = itertools.count(1)
        self._mark = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        while data := self._socket.recv(65_536):
            told = json.loads(data)
            with self._changed:
                if isinstance(told, int):
                    self._mark = told
                else:
                    self.events.append(told)
                self._changed.notify_all()

    def _send(self, data: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(data, self.path)

    def _catch_up(self) -> None:
        """Wait until everything is collected that was told before this."""
        mark = next(self._marks)
        self._send(json.dumps(mark).encode())
        with self._changed:
            assert self._changed.wait_for(lambda: self._mark >= mark, NET)

    def of(self, event: str, jobs: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """The events of one name, of these jobs, that were told by now."""
        self._catch_up()
        return self._of(event, jobs)

    def _of(self, event: str, jobs: Iterable[str] | None) -> list[dict[str, Any]]:
        wanted = None if jobs is None else set(jobs)
        with self._changed:
            return [
                one
                for one in self.events
                if one["event"] == event and (wanted is None or one.get("job") in wanted)
            ]

    def runs(self) -> Counter[str]:
        """How often each job has started."""
        return Counter(one["job"] for one in self.of("start"))

    def wait_for(
        self, event: str, count: int = 1, *, jobs: Iterable[str] | None = None
    ) -> list[dict[str, Any]]:
        """Wait until an event has been told so often."""
        with self._changed:
            done = self._changed.wait_for(lambda: len(self._of(event, jobs)) >= count, NET)
        found = self._of(event, jobs)
        assert done, f"{event!r} was told {len(found)} times, not {count}"
        return found

    def close(self) -> None:
        self._send(b"")
        self._thread.join(NET)
        self._socket.close()


class WorkerCommand:
    """One ``flask taskq worker`` in a process group of its own.

    :param program: a program that has Flask's commands, in place of ``flask`` with an app.
    :param stdout: where standard output goes, as of :mod:`subprocess`.
    :param prefix: what starts it, before the command.
    """

    def __init__(
        self,
        env: dict[str, str],
        *arguments: str,
        app: str | None = None,
        program: Sequence[str] = (),
        stdout: int | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        command = program or ["-m", "flask", "--app", app or f"{APP}:create_app"]
        self.process = subprocess.Popen(
            [*prefix, sys.executable, *command, "taskq", "worker", *arguments],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.log = ""
        #: When each child was first seen to be ready, on the monotonic clock, in seconds.
        self.ready_at: dict[int, float] = {}
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.log += line
                if ready := re.search(READY, line):
                    self.ready_at[int(ready[1])] = time.monotonic()
                self._changed.notify_all()

    def wait_for_log(self, pattern: str, count: int = 1) -> list[str]:
        """Wait until the log has so many matches, and return the groups."""
        with self._changed:
            done = self._changed.wait_for(
                lambda: len(re.findall(pattern, self.log)) >= count, NET
            )
            assert done, f"{pattern!r} is not in the log {count} times:\n{self.log}"
            return re.findall(pattern, self.log)

    def wait_until_ready(self, processes: int) -> list[int]:
        """Wait for the children to fetch, and return their process ids."""
        return [int(pid) for pid in self.wait_for_log(READY, processes)]

    def signal(self, number: int) -> None:
        """To the supervisor alone."""
        self.process.send_signal(number)

    def signal_all(self, number: int) -> None:
        """To every process of the tree at once."""
        os.killpg(self.process.pid, number)

    def wait(self) -> int:
        """Wait for the end of the supervisor, and return its exit code.

        If it was the last process of all, the log is complete then.
        """
        code = self.process.wait(NET)
        if not processes_of_session(self.process.pid):
            self._reader.join(NET)
        return code

    def wait_until_gone(self) -> None:
        """Wait for the last process of the tree, also when the supervisor is dead."""
        # Not for the end of the log: a process closes its files before it is gone.
        with ExitStack() as opened:
            for pid in processes_of_session(self.process.pid):
                with suppress(ProcessLookupError):
                    descriptor = os.pidfd_open(pid)
                    opened.callback(os.close, descriptor)
                    assert select.select([descriptor], [], [], NET)[0], f"{pid} does not end"
        assert processes_of_session(self.process.pid) == []

    def close(self) -> None:
        """End whatever is left."""
        try:
            self.signal_all(signal.SIGCONT)
            self.signal_all(signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(NET)
        self._reader.join(NET)
        assert self.process.stderr is not None
        self.process.stderr.close()
        if self.process.stdout is not None:
            self.process.stdout.close()


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def processes_of_session(leader: int) -> list[int]:
    """The processes that a worker command, started in a session of its own, has left."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found

"""Starting a child process, and what its supervisor shares with it."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import msgspec

from .link import ChildSpec
from .link import Drain
from .link import Link
from .link import Quit
from .link import Word
from .process import LEFT_TO_THE_SUPERVISOR
from .slots import SlotTable


@dataclass
class Child:
    """A process of a supervisor. Times are of the monotonic clock, in milliseconds.

    :param ready_at: since when it fetches jobs.
    :param kill_at: when it is killed, once it was told to end.
    :param was_killed: whether it was killed for not ending.
    """

    worker_id: str
    process: subprocess.Popen[bytes]
    link: Link
    slots: SlotTable
    ready_at: float | None = None
    kill_at: float | None = None
    was_killed: bool = False

    @property
    def was_told(self) -> bool:
        """Whether it was told to end."""
        return self.kill_at is not None

    def tell(self, order: Drain | Quit, kill_at: float) -> None:
        """Tell it to end, at the latest then; an earlier time that was set stays."""
        self.kill_at = kill_at if self.kill_at is None else min(self.kill_at, kill_at)
        self.link.send(order)

    def kill(self) -> None:
        """End it. What it runs did nothing wrong."""
        self.was_killed = True
        self.process.kill()

    def last_words(self) -> list[Word]:
        """What it has said and nobody has heard yet. Never waits."""
        if not self.link.is_open or not select.select([self.link], [], [], 0)[0]:
            return []
        return self.link.receive()

    def release(self) -> None:
        """Let go of what was shared with it."""
        self.link.close()
        self.slots.close()


def spawn(command: Sequence[str], spec: ChildSpec) -> Child:
    """Start a child.

    :param command: what starts it; the spec is added.
    :param spec: what it is told; the descriptors are filled in here.
    :raises OSError: the system has no room for another process, or its descriptors.
    """
    with ExitStack() as stack:
        slots_fd = SlotTable.open_file(spec.threads)
        stack.callback(os.close, slots_fd)
        ours, theirs = socket.socketpair()
        stack.enter_context(theirs)
        with ExitStack() as on_failure:
            on_failure.enter_context(ours)
            spec = msgspec.structs.replace(spec, link=theirs.fileno(), slots=slots_fd)
            process = _start([*command, "--spec", msgspec.json.encode(spec).decode()], spec)
            on_failure.pop_all()
        return Child(spec.worker_id, process, Link(ours), SlotTable(spec.threads, slots_fd))


def _start(command: Sequence[str], spec: ChildSpec) -> subprocess.Popen[bytes]:
    # See process.ignore_signals().
    signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_THE_SUPERVISOR)
    try:
        return subprocess.Popen(
            command, pass_fds=(spec.link, spec.slots), stdin=subprocess.DEVNULL
        )
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, LEFT_TO_THE_SUPERVISOR)

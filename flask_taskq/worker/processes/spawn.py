"""Starts a child process, and keeps what the supervisor shares with it."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
from collections.abc import Container
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import msgspec

from ..slot_table import SlotTable
from .channel import ChildSpec
from .channel import ControlChannel
from .channel import ControlMessage
from .channel import Drain
from .channel import Quit
from .channel import UnreadableMessageError
from .os_signals import LEFT_TO_THE_SUPERVISOR


@dataclass(eq=False)
class Child:
    """A process of a supervisor. Times are of the monotonic clock, in milliseconds.

    :param reload: the number of the reload that it came with, or after.
    :param ready_at: since when it fetches jobs.
    :param wants_replacement: whether it has asked to be replaced.
    :param was_ordered: whether it was ordered to end.
    :param kill_at: when it is killed, if it was ordered to end by a certain time.
    :param was_killed: whether it was killed for not ending.
    :param overdue: jobs over their hard time limit, for which it is killed.
    :param cut_off_at: when it is killed unless it has ended, since it has closed its channel.
    :param is_cut_off: whether orders do not reach it, or its messages cannot be read, for
        which it is killed.
    """

    worker_id: str
    process: subprocess.Popen[bytes]
    channel: ControlChannel
    slots_fd: int
    slots: SlotTable
    reload: int = 0
    ready_at: float | None = None
    wants_replacement: bool = False
    was_ordered: bool = False
    kill_at: float | None = None
    was_killed: bool = False
    overdue: Sequence[str] = ()
    cut_off_at: float | None = None
    is_cut_off: bool = False

    def order(self, order: Drain | Quit, kill_at: float | None) -> None:
        """Order it to end by ``kill_at``; an earlier time that was set stays."""
        self.was_ordered = True
        times = [at for at in (self.kill_at, kill_at) if at is not None]
        self.kill_at = min(times, default=None)
        self.channel.send(order)

    def kill(self) -> None:
        """Kill it. Its jobs get no crash."""
        self.was_killed = True
        self.process.kill()

    def kill_for(self, jobs: Sequence[str], kill_at: float) -> None:
        """Let it log its stacks, and then kill it because of these jobs."""
        self.overdue = jobs
        self.kill_at = kill_at
        self.process.send_signal(signal.SIGUSR1)

    def cut_off(self) -> None:
        """Kill it, since no order reaches it. Its jobs may be the cause."""
        self.is_cut_off, self.cut_off_at = True, None
        self.process.kill()

    def unread_messages(self) -> list[ControlMessage]:
        """Messages that have arrived and were not read yet. Never waits."""
        if not self.channel.is_open or not select.select([self.channel], [], [], 0)[0]:
            return []
        try:
            return self.channel.receive()
        except UnreadableMessageError:
            return []

    def note_ready(self, now: float) -> None:
        """It fetches jobs from now on, and has made its slot table as large as it needs."""
        self.ready_at = now
        self.slots.close()
        self.slots = SlotTable(None, self.slots_fd)

    def release(self) -> None:
        """Close what was shared with it."""
        self.channel.close()
        self.slots.close()
        os.close(self.slots_fd)


def spawn(command: Sequence[str], spec: ChildSpec) -> Child:
    """Start a child.

    :param command: what starts it; the spec is added.
    :param spec: its arguments; the descriptors are added here.
    :raises OSError: the system has too many processes or descriptors.
    """
    with ExitStack() as stack:
        ours, theirs = socket.socketpair()
        stack.enter_context(theirs)
        with ExitStack() as on_failure:
            on_failure.enter_context(ours)
            slots_fd = SlotTable.open_file()
            on_failure.callback(os.close, slots_fd)
            spec = msgspec.structs.replace(spec, channel=theirs.fileno(), slots=slots_fd)
            process = _start([*command, "--spec", msgspec.json.encode(spec).decode()], spec)
            on_failure.pop_all()
        slots = SlotTable(None, slots_fd)
        return Child(spec.worker_id, process, ControlChannel(ours), slots_fd, slots)


def _start(command: Sequence[str], spec: ChildSpec) -> subprocess.Popen[bytes]:
    # See process.ignore_signals().
    signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_THE_SUPERVISOR)
    try:
        return subprocess.Popen(
            command, pass_fds=(spec.channel, spec.slots), stdin=subprocess.DEVNULL
        )
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, LEFT_TO_THE_SUPERVISOR)


def reap_orphan(ours: Container[int]) -> bool:
    """Take the exit status of an orphan process, if one has ended.

    The first process of a container inherits those whose parents have ended, such as what a
    job has left behind, and they fill the process table until this is done.

    :param ours: ids of child processes, whose exit status is not taken.
    :return: whether there may be more. One of ours that has ended may hide others.
    """
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None or found.si_pid in ours:
            return found is not None
        os.waitpid(found.si_pid, 0)
    except ChildProcessError:
        return False
    return True

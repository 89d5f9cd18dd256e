"""The parent of a worker's processes: starts them, replaces the dead, obeys signals.

It never imports the application. Children start clean from the interpreter and build the
app, so that a replacement runs the code as it is then, and nothing that an app does can
harm the supervisor.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import selectors
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import msgspec

from ..clock import Clock
from ..engines import make_engine
from ..engines.base import Engine
from .leases import LeaseKeeper
from .link import ChildSpec
from .link import Configured
from .link import Drain
from .link import Link
from .link import Quit
from .link import Ready
from .link import Refused
from .slots import SlotTable
from .worker import generate_worker_id

logger = logging.getLogger(__name__)

# Exit codes. One SIGTERM or SIGINT is an orderly end; a second one is not.
EXIT_OK: Final = 0
EXIT_USAGE: Final = 2  # the command, the app's name or its configuration is wrong
EXIT_ENGINE: Final = 3  # the engine was not reached in time
EXIT_SIGNALLED: Final = 128  # plus the number of the second signal

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

#: A child that dies sooner than this after it was ready (ms) counts as dying at the start.
_SETTLING_IN: Final = 5_000
_MIN_BACKOFF: Final = 1_000
_MAX_BACKOFF: Final = 60_000

#: How much longer than the grace time a child may take to end, in milliseconds.
_OVERTIME: Final = 3_000
#: How long a child may take to end after it was told to end at once, in milliseconds.
_QUIT_TIME: Final = 1_500
#: How long the jobs of dead children may take to hand back at the end, in milliseconds.
_LAST_ERRANDS: Final = 1_000


class SupervisorOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says.

    :param command: what starts a child; ``--spec`` and a :class:`ChildSpec` are added.
    :param processes: how many children.
    :param threads: how many jobs each of them runs at the same time.
    :param queues: names of queues; None for those of all actors.
    :param grace: milliseconds that running jobs get at the end; None for ``TASKQ_GRACE``.
    :param connect_timeout: milliseconds to reach the engine in; 0 for no limit.
    """

    command: list[str]
    processes: int
    threads: int
    queues: list[str] | None = None
    grace: int | None = None
    connect_timeout: int = 60_000


@dataclass
class _Child:
    """A process, and what the supervisor shares with it."""

    worker_id: str
    process: subprocess.Popen[bytes]
    link: Link
    slots: SlotTable
    ready_at: float | None = None
    kill_at: float | None = None


@dataclass
class _Place:
    """Where a child belongs; it is replaced when it dies.

    :param start_at: when the next child is due here, on the monotonic clock.
    :param failures: how many children in a row died at the start.
    """

    child: _Child | None = None
    start_at: float | None = None
    failures: int = 0


class Supervisor:
    """Runs the children of one ``flask taskq worker``.

    :param options: what the command line says.
    :param clock: the time.
    """

    def __init__(self, options: SupervisorOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._places = [_Place() for _ in range(options.processes)]
        # The child that runs jobs which must run alone; it ends by itself.
        self._isolated = _Place()
        self._configured: Configured | None = None
        self._engine: Engine | None = None
        self._keeper: LeaseKeeper | None = None
        self._selector = selectors.DefaultSelector()
        self._last_refusal = ""
        self._was_ready = False
        self._stop_signals = 0
        self._exit_code: int | None = None

    def run(self) -> int:
        """Start the children and stay until a signal ends it.

        :return: the exit code of the command.
        """
        with self._signals():
            # The first child tells the configuration, and shows whether the app loads.
            self._places[0].start_at = self._clock.monotonic()
            while self._exit_code is None or self._children():
                self._start_due()
                self._wait()
                self._bury_dead()
                self._kill_overdue()
            self._close()
        return self._exit_code

    def check(self) -> int:
        """Let one child build the app and say whether that worked.

        :return: the exit code of the command.
        """
        child = self._spawn(isolated=False, check=True)
        refusals = []
        while child.link.is_open:
            refusals += [word for word in child.link.receive() if isinstance(word, Refused)]
        code = child.process.wait()
        self._release(child)
        for refusal in refusals:
            logger.error("%s", refusal.text)
            return EXIT_ENGINE if refusal.reason == "engine" else EXIT_USAGE
        return EXIT_OK if code == 0 else EXIT_USAGE

    def _children(self) -> list[_Child]:
        places = [*self._places, self._isolated]
        return [place.child for place in places if place.child is not None]

    # Starting

    def _start_due(self) -> None:
        now = self._clock.monotonic()
        for place in (*self._places, self._isolated):
            due = place.start_at is not None and place.start_at <= now
            if due and place.child is None and self._exit_code is None:
                place.start_at = None
                place.child = self._spawn(isolated=place is self._isolated)

    def _spawn(self, *, isolated: bool, check: bool = False) -> _Child:
        threads = 1 if isolated else self._options.threads
        slots_fd = SlotTable.open_file(threads)
        ours, theirs = socket.socketpair()
        spec = ChildSpec(
            worker_id=generate_worker_id(),
            link=theirs.fileno(),
            slots=slots_fd,
            threads=threads,
            queues=self._options.queues,
            grace=self._options.grace,
            connect_timeout=self._options.connect_timeout,
            isolated=isolated,
            check=check,
        )
        # See process.ignore_signals().
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        try:
            process = subprocess.Popen(
                [*self._options.command, "--spec", msgspec.json.encode(spec).decode()],
                pass_fds=(theirs.fileno(), slots_fd),
                stdin=subprocess.DEVNULL,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
            theirs.close()
        child = _Child(spec.worker_id, process, Link(ours), SlotTable(threads, slots_fd))
        os.close(slots_fd)
        self._selector.register(child.link, selectors.EVENT_READ, child)
        logger.debug("started process %d as worker %s", process.pid, child.worker_id)
        return child

    # Waiting

    def _wait(self) -> None:
        """Until a child says something, a signal comes, or something is due."""
        due = [child.kill_at for child in self._children()]
        if self._exit_code is None:
            due += [place.start_at for place in (*self._places, self._isolated)]
        times = [at for at in due if at is not None]
        now = self._clock.monotonic()
        timeout = max(0.0, min(times) - now) / 1000 if times else None
        for key, _ in self._selector.select(timeout):
            if isinstance(key.data, _Child):
                self._hear(key.data)
            else:
                key.data()

    def _hear(self, child: _Child) -> None:
        for word in child.link.receive():
            match word:
                case Configured():
                    self._configure(word)
                case Ready():
                    self._note_ready(child)
                case Refused():
                    self._note_refusal(word)
        if not child.link.is_open:
            # The end of the process is told by SIGCHLD.
            self._selector.unregister(child.link)

    def _configure(self, word: Configured) -> None:
        if self._configured is not None:
            return
        self._configured = word
        self._engine = make_engine(word.settings, self._clock)
        queues = self._options.queues or word.queues
        self._keeper = LeaseKeeper(self._engine, self._clock, queues, self._call_isolated)
        self._keeper.start()

    def _note_ready(self, child: _Child) -> None:
        child.ready_at = self._clock.monotonic()
        self._last_refusal = ""
        if self._keeper is not None:
            self._keeper.watch(child.worker_id, child.slots)
        if not self._was_ready:
            self._was_ready = True
            for place in self._places[1:]:
                place.start_at = child.ready_at
        logger.info("process %d is ready as worker %s", child.process.pid, child.worker_id)

    def _note_refusal(self, word: Refused) -> None:
        if word.reason == "usage" and not self._was_ready:
            self._refuse(word, EXIT_USAGE)
        elif word.reason == "engine" and not self._was_ready:
            self._refuse(word, EXIT_ENGINE)
        elif word.text != self._last_refusal:
            # Once, not with every try.
            self._last_refusal = word.text
            logger.error("a worker process cannot start, will try again:\n%s", word.text)

    def _refuse(self, word: Refused, exit_code: int) -> None:
        logger.error("%s", word.text)
        self._exit_code = exit_code
        self._tell_all(Quit(), _QUIT_TIME)

    def _call_isolated(self) -> None:
        # Called by the lease keeper's thread; a signal to itself is what wakes the loop.
        if self._isolated.child is None and self._isolated.start_at is None:
            self._isolated.start_at = self._clock.monotonic()
            os.kill(os.getpid(), signal.SIGCHLD)

    # The dead

    def _bury_dead(self) -> None:
        for place in (*self._places, self._isolated):
            child = place.child
            if child is not None and child.process.poll() is not None:
                place.child = None
                self._hand_back(child)
                if place is not self._isolated or child.ready_at is None:
                    self._schedule_replacement(place, child)
                self._release(child)

    def _hand_back(self, child: _Child) -> None:
        code = child.process.returncode
        cause = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        was_told = child.kill_at is not None
        # Jobs of a child that was killed for not ending in time did nothing wrong.
        started = [] if was_told else [job.job_id for job in child.slots.started()]
        if child.ready_at is not None and not was_told and (code or started):
            logger.error(
                "process %d (worker %s) died while it ran %d jobs: %s",
                child.process.pid,
                child.worker_id,
                len(started),
                cause,
            )
        if self._keeper is not None:
            self._keeper.unwatch(child.worker_id)
            self._keeper.hand_back(child.worker_id, started, cause)

    def _schedule_replacement(self, place: _Place, child: _Child) -> None:
        """At once, unless children keep dying before they have done any good."""
        now = self._clock.monotonic()
        if child.ready_at is not None and now - child.ready_at >= _SETTLING_IN:
            place.failures = 0
            place.start_at = now
            return
        place.failures += 1
        # One early death may be a job's fault; only a second one in a row is waited for.
        steps = place.failures - (child.ready_at is not None)
        delay = min(_MIN_BACKOFF * 2 ** (steps - 1), _MAX_BACKOFF) if steps else 0
        place.start_at = now + delay
        if delay:
            logger.warning("starting another process in %d ms", delay)

    def _kill_overdue(self) -> None:
        now = self._clock.monotonic()
        for child in self._children():
            if child.kill_at is not None and child.kill_at <= now:
                logger.error("process %d does not end: killing it", child.process.pid)
                child.process.kill()
                child.kill_at = now + _OVERTIME

    def _release(self, child: _Child) -> None:
        if child.link.fileno() in self._selector.get_map():
            self._selector.unregister(child.link)
        child.link.close()
        child.slots.close()

    # Signals

    @contextmanager
    def _signals(self) -> Iterator[None]:
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        handled = (*_STOP_SIGNALS, signal.SIGCHLD)
        old_handlers = {number: signal.signal(number, lambda *_: None) for number in handled}
        old_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        faulthandler.register(signal.SIGUSR1, all_threads=True, chain=False)
        self._selector.register(
            reader, selectors.EVENT_READ, lambda: self._take_signals(reader)
        )
        try:
            yield
        finally:
            signal.set_wakeup_fd(old_fd)
            for number, handler in old_handlers.items():
                signal.signal(number, handler)
            faulthandler.unregister(signal.SIGUSR1)
            self._selector.unregister(reader)
            reader.close()
            writer.close()

    def _take_signals(self, reader: socket.socket) -> None:
        try:
            numbers = reader.recv(4096)
        except BlockingIOError:
            return
        for number in numbers:
            if number in _STOP_SIGNALS:
                self._stop(number)

    def _stop(self, number: int) -> None:
        self._stop_signals += 1
        if self._stop_signals == 1:
            self._exit_code = EXIT_OK if self._exit_code is None else self._exit_code
            grace = self._grace()
            logger.info("%s: stopping, jobs have %d ms to end", _name(number), grace)
            self._tell_all(Drain(grace), grace + _OVERTIME)
        else:
            self._exit_code = EXIT_SIGNALLED + number
            logger.warning("%s again: stopping at once", _name(number))
            self._tell_all(Quit(), _QUIT_TIME)

    def _grace(self) -> int:
        if self._options.grace is not None:
            return self._options.grace
        return 0 if self._configured is None else self._configured.settings.grace

    def _tell_all(self, word: Drain | Quit, patience: int) -> None:
        for child in self._children():
            child.kill_at = self._clock.monotonic() + patience
            if child.ready_at is None:
                # It is still building its app, or is about to fetch: nothing of it is lost.
                child.process.kill()
            else:
                child.link.send(word)

    def _close(self) -> None:
        if self._keeper is not None:
            self._keeper.stop(_LAST_ERRANDS)
        if self._engine is not None:
            self._engine.close()


def _name(number: int) -> str:
    return signal.Signals(number).name

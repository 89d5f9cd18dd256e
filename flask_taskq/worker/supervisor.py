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
from collections import deque
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import msgspec

from ..clock import Clock
from ..engines import make_engine
from ..engines.base import Engine
from .lease_keeper import LeaseKeeper
from .link import ChildSpec
from .link import Configured
from .link import Died
from .link import Drain
from .link import Quit
from .link import Ready
from .link import Refused
from .link import Word
from .spawn import Child
from .spawn import spawn
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

#: How many deaths are remembered until a child can be told of them.
_MAX_DEATHS: Final = 100


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
class _Place:
    """Where a child belongs; it is replaced when it dies.

    :param start_at: when the next child is due here, on the monotonic clock.
    :param failures: how many children in a row died at the start.
    """

    child: Child | None = None
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
        # What no child could be told yet; the oldest are dropped should none live for long.
        self._deaths: deque[Died] = deque(maxlen=_MAX_DEATHS)
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
        words: list[Word] = []
        while child.link.is_open:
            words += child.link.receive()
        code = child.process.wait()
        self._release(child)
        refusal = next((word for word in words if isinstance(word, Refused)), None)
        if refusal is not None:
            logger.error("%s", refusal.text)
            return EXIT_ENGINE if refusal.reason == "engine" else EXIT_USAGE
        if code:
            logger.error("the process that was to build the app ended: %s", _cause(code))
        return EXIT_USAGE if code else EXIT_OK

    def _children(self) -> list[Child]:
        places = [*self._places, self._isolated]
        return [place.child for place in places if place.child is not None]

    # Starting

    def _start_due(self) -> None:
        now = self._clock.monotonic()
        for place in (*self._places, self._isolated):
            due = place.start_at is not None and place.start_at <= now
            if due and place.child is None and self._exit_code is None:
                place.start_at = None
                try:
                    place.child = self._spawn(isolated=place is self._isolated)
                except OSError as error:
                    logger.error("a process cannot be started: %s", error)
                    self._start_later(place, failed=True)

    def _spawn(self, *, isolated: bool, check: bool = False) -> Child:
        options = self._options
        spec = ChildSpec(
            worker_id=generate_worker_id(),
            threads=1 if isolated else options.threads,
            queues=options.queues,
            grace=options.grace,
            connect_timeout=options.connect_timeout,
            isolated=isolated,
            check=check,
        )
        child = spawn(options.command, spec)
        self._selector.register(child.link, selectors.EVENT_READ, child)
        logger.debug("started process %d as worker %s", child.process.pid, child.worker_id)
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
            if isinstance(key.data, Child):
                self._hear(key.data)
            else:
                key.data()

    def _hear(self, child: Child) -> None:
        self._heed(child, child.link.receive())
        if not child.link.is_open:
            # The end of the process is told by SIGCHLD.
            self._selector.unregister(child.link)

    def _heed(self, child: Child, words: Sequence[Word]) -> None:
        for word in words:
            match word:
                case Configured():
                    self._configure(word)
                case Ready():
                    self._note_ready(child)
                case Refused():
                    self._note_refusal(word)

    def _configure(self, word: Configured) -> None:
        if self._configured is not None:
            return
        self._configured = word
        self._engine = make_engine(word.settings, self._clock)
        queues = self._options.queues or word.queues
        self._keeper = LeaseKeeper(self._engine, self._clock, queues, self._call_isolated)
        self._keeper.start()

    def _note_ready(self, child: Child) -> None:
        child.ready_at = self._clock.monotonic()
        self._last_refusal = ""
        if self._keeper is not None:
            self._keeper.watch(child.worker_id, child.slots)
        if not self._was_ready:
            self._was_ready = True
            for place in self._places[1:]:
                place.start_at = child.ready_at
        logger.info("process %d is ready as worker %s", child.process.pid, child.worker_id)
        self._tell_deaths()

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
                self._heed(child, child.last_words())
                place.child = None
                self._hand_back(child)
                if place is not self._isolated or child.ready_at is None:
                    self._schedule_replacement(place, child)
                self._release(child)
                self._tell_deaths()

    def _tell_deaths(self) -> None:
        """Let an app hear of deaths, in a child that lives: none is built here."""
        for child in self._children():
            lives = child.ready_at is not None and child.process.poll() is None
            # A frozen child does not read, and nothing may wait for one here.
            while lives and self._deaths and not child.was_told and child.link.is_read():
                child.link.send(self._deaths[0])
                if not child.link.is_open:
                    break
                self._deaths.popleft()

    def _hand_back(self, child: Child) -> None:
        code = child.process.returncode
        cause = _cause(code)
        # What it runs when it ends in order, or is killed for not ending, did nothing wrong.
        did_wrong = not child.was_killed and (code or not child.was_told)
        started = [job.job_id for job in child.slots.started()] if did_wrong else []
        if child.ready_at is not None and did_wrong and (code or started):
            logger.error(
                "process %d (worker %s) died while it ran %d jobs: %s",
                child.process.pid,
                child.worker_id,
                len(started),
                cause,
            )
            self._deaths.append(Died(child.worker_id, code, started))
        if self._keeper is not None:
            self._keeper.unwatch(child.worker_id)
            self._keeper.hand_back(child.worker_id, started, cause)

    def _schedule_replacement(self, place: _Place, child: Child) -> None:
        """At once, unless children keep dying before they have done any good."""
        was_ready = child.ready_at is not None
        if was_ready and self._clock.monotonic() - (child.ready_at or 0) >= _SETTLING_IN:
            place.failures = 0
            place.start_at = self._clock.monotonic()
        else:
            # One early death may be a job's fault; only a second in a row is waited for.
            self._start_later(place, failed=not was_ready)

    def _start_later(self, place: _Place, *, failed: bool) -> None:
        place.failures += 1
        steps = place.failures if failed else place.failures - 1
        delay = min(_MIN_BACKOFF * 2 ** (steps - 1), _MAX_BACKOFF) if steps else 0
        place.start_at = self._clock.monotonic() + delay
        if delay and self._exit_code is None:
            logger.warning("starting another process in %d ms", delay)

    def _kill_overdue(self) -> None:
        now = self._clock.monotonic()
        for child in self._children():
            if child.kill_at is not None and child.kill_at <= now:
                logger.error("process %d does not end: killing it", child.process.pid)
                child.kill()
                child.kill_at = now + _OVERTIME

    def _release(self, child: Child) -> None:
        if child.link.fileno() in self._selector.get_map():
            self._selector.unregister(child.link)
        child.release()

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
            # From the third on there is nothing left to wait for.
            self._tell_all(Quit(), _QUIT_TIME if self._stop_signals == 2 else 0)

    def _grace(self) -> int:
        if self._options.grace is not None:
            return self._options.grace
        return 0 if self._configured is None else self._configured.settings.grace

    def _tell_all(self, word: Drain | Quit, patience: int) -> None:
        for child in self._children():
            self._heed(child, child.last_words())
            child.tell(word, self._clock.monotonic() + patience)
            if child.ready_at is None:
                # It has not fetched anything yet, and may be busy building its app.
                child.kill()

    def _close(self) -> None:
        # An engine that is out of reach would be waited for.
        if self._keeper is not None and self._keeper.stop(_LAST_ERRANDS):
            if self._engine is not None:
                self._engine.close()


def _name(number: int) -> str:
    return signal.Signals(number).name


def _cause(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

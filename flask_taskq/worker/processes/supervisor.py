"""The parent of a worker's processes: starts them, replaces the dead, obeys signals.

It never imports the application. Children start clean from the interpreter and build the
app, so that a replacement runs the code as it is then, and nothing that an app does can
harm the supervisor.
"""

from __future__ import annotations

import os
import selectors
import signal
from collections import deque
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Final

import msgspec

from ...clock import Clock
from ...engines import make_engine
from ...jobs.record import Lane
from ...loggers import get_logger
from ..proof import generate_worker_id
from .channel import ChildSpec
from .channel import Configured
from .channel import Died
from .channel import Drain
from .channel import GarbledError
from .channel import Quit
from .channel import Ready
from .channel import Refused
from .channel import Serves
from .channel import Word
from .channel import Worn
from .findings import describe_processes
from .findings import describe_queues
from .findings import describe_start
from .findings import find_warnings
from .housekeeping import LeaseKeeper
from .os_signals import catch_signals
from .os_signals import SignalReader
from .pool import Crew
from .spawn import Child
from .spawn import reap_orphan
from .spawn import spawn

logger = get_logger(__name__)

# Exit codes. One SIGTERM or SIGINT is an orderly end; a second one is not.
EXIT_OK: Final = 0
EXIT_USAGE: Final = 2  # the command, the app's name or its configuration is wrong
EXIT_ENGINE: Final = 3  # the engine was not reached in time
EXIT_SIGNALLED: Final = 128  # plus the number of the second signal

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

#: How much longer than the grace time a child may take to end, in milliseconds.
_OVERTIME: Final = 3_000
#: How long a child may take to end after it was told to end at once, in milliseconds.
_QUIT_TIME: Final = 1_500
#: How long a child has to write down where it is before it is killed, in milliseconds.
_LAST_WORDS: Final = 300
#: How long the end of a child may follow that of its link, in milliseconds.
_LAST_BREATH: Final = 100
#: How long the jobs of dead children may take to hand back at the end, in milliseconds.
_LAST_ERRANDS: Final = 1_000

#: How many deaths are remembered until a child can be told of them.
_MAX_DEATHS: Final = 100


class SupervisorOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says.

    :param command: what starts a child; ``--spec`` and a :class:`ChildSpec` are added.
    :param processes: how many children.
    :param processes_reason: why as many.
    :param threads: how many jobs each of them runs at the same time.
    :param queues: names of queues; None for those of all actors.
    :param grace: milliseconds that running jobs get at the end; None for ``TASKQ_GRACE``.
    :param connect_timeout: milliseconds to reach the engine in; 0 for no limit.
    :param max_jobs: after about how many runs of jobs a child is replaced; None for never.
    :param max_memory: at how many bytes of resident memory it is; None for never.
    """

    command: list[str]
    processes: int
    processes_reason: str
    threads: int
    queues: list[str] | None = None
    grace: int | None = None
    connect_timeout: int = 60_000
    max_jobs: int | None = None
    max_memory: int | None = None


class Supervisor:
    """Runs the children of one ``flask taskq worker``.

    :param options: what the command line says.
    :param clock: the time.
    """

    def __init__(self, options: SupervisorOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._crew = Crew(options.processes, clock)
        self._configured: Configured | None = None
        # The last one is for new children; each has that of its own configuration.
        self._keeper: LeaseKeeper | None = None
        self._keepers: dict[str, LeaseKeeper] = {}
        self._selector = selectors.DefaultSelector()
        # What no child could be told yet; the oldest are dropped should none live for long.
        self._deaths: deque[Died] = deque(maxlen=_MAX_DEATHS)
        # Workers and jobs, put here by the lease keeper's thread.
        self._overdue: SimpleQueue[tuple[str, list[str]]] = SimpleQueue()
        self._last_refusal = ""
        # Of actors that children have declared after their start.
        self._late_queues: set[str] = set()
        # What is still to be said of the configuration.
        self._ready_line = ""
        self._was_ready = False
        self._stop_signals = 0
        self._exit_code: int | None = None

    def run(self) -> int:
        """Start the children and stay until a signal ends it.

        :return: the exit code of the command.
        """
        with catch_signals() as signals:
            self._selector.register(signals, selectors.EVENT_READ)
            # The first child tells the configuration, and shows whether the app loads.
            self._crew.places[0].call()
            while self._exit_code is None or self._crew.children:
                self._crew.go_on_reloading()
                self._start_due()
                self._wait()
                self._reap()
                self._kill_overdue()
            self._selector.unregister(signals)
            self._close()
        return self._exit_code

    # Starting

    def _start_due(self) -> None:
        for place in self._crew.due():
            try:
                child = self._spawn(
                    lane=Lane.ALONE if place is self._crew.alone else Lane.ORDINARY
                )
            except OSError as error:
                logger.error("a process cannot be started: %s", error)
                place.call_later(failed=True)
            else:
                place.enter(child)

    def _spawn(self, lane: Lane) -> Child:
        options, is_alone = self._options, lane is Lane.ALONE
        spec = ChildSpec(
            worker_id=generate_worker_id(),
            threads=1 if is_alone else options.threads,
            queues=self._queues() if is_alone else options.queues,
            grace=options.grace,
            connect_timeout=options.connect_timeout,
            max_jobs=None if is_alone else options.max_jobs,
            max_memory=None if is_alone else options.max_memory,
            lane=lane,
        )
        child = spawn(options.command, spec)
        child.reload = self._crew.reload
        self._selector.register(child.link, selectors.EVENT_READ, child)
        logger.debug("started process %d as worker %s", child.process.pid, child.worker_id)
        return child

    # Waiting

    def _wait(self) -> None:
        """Until a child says something, a signal comes, or something is due."""
        due = [self._crew.next_due()]
        for child in self._crew.children:
            due += [child.kill_at, child.cut_off_at]
        times = [at for at in due if at is not None]
        now = self._clock.monotonic()
        timeout = max(0.0, min(times) - now) / 1000 if times else None
        for key, _ in self._selector.select(timeout):
            if isinstance(key.data, Child):
                self._hear(key.data)
            elif isinstance(key.fileobj, SignalReader):
                self._heed_signals(key.fileobj)

    def _hear(self, child: Child) -> None:
        try:
            self._heed(child, child.link.receive())
        except GarbledError as error:
            self._replace_garbled(child, error)
        if not child.link.is_open:
            # The end of the process is told by SIGCHLD.
            self._selector.unregister(child.link)
            now = self._clock.monotonic()
            if child.ready_at is not None:
                # The system closes it with the end of the process. If it does not end, a job
                # has closed it, and the process would live on unheard.
                child.cut_off_at = now + _LAST_BREATH
            elif child.kill_at is None:
                child.kill_at = now + _OVERTIME

    def _replace_garbled(self, child: Child, error: GarbledError) -> None:
        pid = child.process.pid
        logger.error(
            "process %d has written to its supervisor %s; a job has perhaps used a file"
            " descriptor that is not its own",
            pid,
            error,
        )
        if child.ready_at is None:
            child.kill()
        else:
            # What it had said itself may have been lost with it.
            self._note_worn(child, Worn("it cannot be understood", urgent=True))

    def _heed(self, child: Child, words: Sequence[Word]) -> None:
        for word in words:
            match word:
                case Configured():
                    self._configure(child, word)
                case Serves():
                    self._note_served(child, word)
                case Ready():
                    self._note_ready(child)
                case Refused():
                    self._note_refusal(child, word)
                case Worn():
                    self._note_worn(child, word)

    def _configure(self, child: Child, word: Configured) -> None:
        if self._keeper is None or word != self._configured:
            # New code may come with another configuration, even with another broker.
            said = self._options
            engine = make_engine(word.settings, self._clock)
            former = self._keeper
            self._configured = word
            self._keeper = LeaseKeeper(
                engine, self._clock, self._queues(), self._call_alone, self._note_overdue
            )
            self._keeper.start()
            processes = describe_processes(said.processes, said.threads, said.processes_reason)
            self._ready_line = describe_start(word, self._queues(), engine, processes)
            self._end_unless_needed(former)
        self._keepers[child.worker_id] = self._keeper

    def _queues(self) -> list[str]:
        """The queues that any child serves."""
        if self._options.queues is not None:
            return self._options.queues
        declared = [] if self._configured is None else self._configured.queues
        return sorted({*declared, *self._late_queues})

    def _note_served(self, child: Child, word: Serves) -> None:
        self._late_queues.update(word.queues)
        self._keepers[child.worker_id].queues = self._queues()
        logger.info(
            "process %d serves the %s, too: an actor was declared late",
            child.process.pid,
            describe_queues(word.queues),
        )

    def _note_ready(self, child: Child) -> None:
        if child.ready_at is not None:
            return
        child.note_ready(self._clock.monotonic())
        self._last_refusal = ""
        self._say_what_is_ready()
        self._keepers[child.worker_id].watch(child.worker_id, child.slots)
        logger.info("process %d is ready as worker %s", child.process.pid, child.worker_id)
        if child.process.poll() is None:
            self._let_serve(child)
        if not self._was_ready:
            self._was_ready = True
            for place in self._crew.places[1:]:
                place.call()
        self._tell_deaths()

    def _say_what_is_ready(self) -> None:
        # Once, and again when new code brings something else.
        if self._configured is not None and self._ready_line:
            for warning in find_warnings(self._options.queues, self._configured):
                logger.warning("%s", warning)
            logger.info("ready: %s", self._ready_line)
            self._ready_line = ""

    def _let_serve(self, child: Child) -> None:
        relieved = self._crew.place_of(child).settle(child)
        if relieved is not None:
            # One that is only worn may take its time: a job that wears out each process,
            # and takes longer than the grace time, would never end.
            has_time = relieved.is_worn and relieved.reload == self._crew.reload
            self._dismiss(relieved, None if has_time else self._grace())

    def _note_worn(self, child: Child, word: Worn) -> None:
        if self._exit_code is not None:
            return
        logger.info("process %d is to be replaced: %s", child.process.pid, word.reason)
        place = self._crew.place_of(child)
        if word.urgent:
            place.expel(child)
            self._dismiss(child, self._grace())
        elif child is place.serving:
            child.is_worn = True
            place.relieve(soon=word.soon)

    def _dismiss(self, child: Child, grace: int | None) -> None:
        kill_at = None if grace is None else self._clock.monotonic() + grace + _OVERTIME
        child.tell(Drain(grace), kill_at)

    def _note_refusal(self, child: Child, word: Refused) -> None:
        if word.reason == "usage" and not self._was_ready:
            self._refuse(word, EXIT_USAGE)
        elif word.reason == "engine" and not self._was_ready:
            self._refuse(word, EXIT_ENGINE)
        elif self._crew.is_tried_by(child):
            self._give_up_reload(word.text)
        elif word.text != self._last_refusal:
            # Once, not with every try.
            self._last_refusal = word.text
            logger.error("a worker process cannot start, will try again:\n%s", word.text)

    def _refuse(self, word: Refused, exit_code: int) -> None:
        logger.error("%s", word.text)
        self._exit_code = exit_code
        self._tell_all(Quit(), _QUIT_TIME)

    def _call_alone(self) -> None:
        # Called by the lease keeper's thread; a signal to itself is what wakes the loop.
        if self._crew.alone.is_empty:
            self._crew.alone.call()
            os.kill(os.getpid(), signal.SIGCHLD)

    def _note_overdue(self, worker: str, jobs: list[str]) -> None:
        # As above.
        self._overdue.put((worker, jobs))
        os.kill(os.getpid(), signal.SIGCHLD)

    # The dead

    def _reap(self) -> None:
        """Bury the dead; as the first process of a container, also those of nobody."""
        while True:
            self._bury_dead()
            ours = {child.process.pid for child in self._crew.children}
            if os.getpid() != 1 or not reap_orphan(ours):
                return

    def _bury_dead(self) -> None:
        for child in self._crew.children:
            code = child.process.poll()
            if code is not None:
                self._heed(child, child.last_words())
                if self._crew.is_tried_by(child):
                    self._give_up_reload(f"process {child.process.pid}: {describe_death(code)}")
                self._crew.place_of(child).bury(child)
                self._hand_back(child)
                self._release(child)
                self._tell_deaths()

    def _tell_deaths(self) -> None:
        """Let an app hear of deaths, in a child that lives: none is built here."""
        for child in self._crew.children:
            lives = child.ready_at is not None and child.process.poll() is None
            # A frozen child does not read, and nothing may wait for one here.
            while lives and self._deaths and not child.was_told and child.link.is_read():
                child.link.send(self._deaths[0])
                if not child.link.is_open:
                    break
                self._deaths.popleft()

    def _hand_back(self, child: Child) -> None:
        code = child.process.returncode
        cause = describe_death(code)
        if child.is_cut_off and code == -signal.SIGKILL:
            cause = f"{cause}, for it had closed the connection to its supervisor"
        # What it runs when it ends in order, or is killed for not ending, did nothing wrong.
        did_wrong = not child.was_killed and (code or not child.was_told)
        started = [job.job_id for job in child.slots.started()] if did_wrong else []
        if child.overdue:
            # The others that it was running did nothing wrong.
            started, did_wrong = list(child.overdue), True
            cause = f"{cause}, for a job over its hard time limit"
        if child.ready_at is not None and did_wrong and (code or started):
            logger.error(
                "process %d (worker %s) died while it ran %s: %s",
                child.process.pid,
                child.worker_id,
                _running(started),
                cause,
            )
            self._deaths.append(Died(child.worker_id, code, started))
        keeper = self._keepers.pop(child.worker_id, self._keeper)
        if keeper is not None:
            keeper.unwatch(child.worker_id)
            is_known = child.slots.is_known or not did_wrong
            keeper.hand_back(child.worker_id, started if is_known else None, cause)
        self._end_unless_needed(keeper)

    def _end_unless_needed(self, keeper: LeaseKeeper | None) -> None:
        if keeper is not None and keeper not in (self._keeper, *self._keepers.values()):
            keeper.end()

    def _kill_overdue(self) -> None:
        now = self._clock.monotonic()
        while not self._overdue.empty():
            worker, jobs = self._overdue.get()
            for child in self._crew.children:
                if child.worker_id == worker and not child.overdue:
                    logger.error(
                        "process %d (worker %s) is stopped, or busy in C code: it does nothing"
                        " about jobs over their hard time limit, and is killed: %s",
                        child.process.pid,
                        worker,
                        ", ".join(jobs),
                    )
                    child.kill_for(jobs, now + _LAST_WORDS)
        for child in self._crew.children:
            if child.cut_off_at is not None and child.cut_off_at <= now:
                child.cut_off()
            if child.kill_at is not None and child.kill_at <= now:
                logger.error("process %d does not end: killing it", child.process.pid)
                child.kill()
                child.kill_at = now + _OVERTIME

    def _release(self, child: Child) -> None:
        if child.link.fileno() in self._selector.get_map():
            self._selector.unregister(child.link)
        child.release()

    # Signals

    def _heed_signals(self, signals: SignalReader) -> None:
        for number in signals.read():
            if number in _STOP_SIGNALS:
                self._stop(number)
            elif number == signal.SIGHUP:
                self._reload()

    def _reload(self) -> None:
        if self._exit_code is not None:
            return
        logger.info("SIGHUP: replacing all processes, one after the other")
        self._crew.begin_reload()
        for child in self._crew.children:
            if child.was_told:
                # It had all the time that it needed. Now its code is old.
                self._dismiss(child, self._grace())

    def _give_up_reload(self, text: str) -> None:
        self._crew.give_up_reload()
        logger.error(
            "the reload is given up, processes that were not replaced yet go on with what they"
            " have loaded. Mend this and send SIGHUP again:\n%s",
            text,
        )

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
        self._crew.close()
        for child in self._crew.children:
            self._heed(child, child.last_words())
            child.tell(word, self._clock.monotonic() + patience)
            if child.ready_at is None:
                # It has not fetched anything yet, and may be busy building its app.
                child.kill()

    def _close(self) -> None:
        if self._keeper is not None:
            self._keeper.end()
            self._keeper.join(_LAST_ERRANDS)


def _name(number: int) -> str:
    return signal.Signals(number).name


def _running(jobs: Sequence[str]) -> str:
    if not jobs:
        return "no job"
    return f"{len(jobs)} {'job' if len(jobs) == 1 else 'jobs'} ({', '.join(jobs)})"


def describe_death(code: int) -> str:
    """How a process ended. :param code: as of :mod:`subprocess`."""
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

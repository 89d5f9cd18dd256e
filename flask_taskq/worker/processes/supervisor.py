"""The parent process of a worker: starts and replaces child processes, and handles signals.

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
from ..liveness import generate_worker_id
from .channel import ChildSpec
from .channel import Configured
from .channel import ControlMessage
from .channel import Died
from .channel import Drain
from .channel import Quit
from .channel import Ready
from .channel import Refused
from .channel import ReplaceRequest
from .channel import Serves
from .channel import UnreadableMessageError
from .housekeeping import Housekeeper
from .os_signals import catch_signals
from .os_signals import SignalReader
from .pool import ProcessPool
from .spawn import Child
from .spawn import reap_orphan
from .spawn import spawn
from .startup_report import describe_processes
from .startup_report import describe_queues
from .startup_report import describe_start
from .startup_report import find_warnings

logger = get_logger(__name__)

# Exit codes. One SIGTERM or SIGINT is an orderly end; a second one is not.
EXIT_OK: Final = 0
EXIT_USAGE: Final = 2  # the command, the app's name or its configuration is wrong
EXIT_ENGINE: Final = 3  # the engine was not reached in time
EXIT_SIGNALLED: Final = 128  # plus the number of the second signal

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

#: How much longer than the grace time a child may take to end, in milliseconds.
_OVERTIME: Final = 3_000
#: How long a child may take to end after it was ordered to end at once, in milliseconds.
_QUIT_TIME: Final = 1_500
#: How long a child has to log its stacks before it is killed, in milliseconds.
_DUMP_TIME: Final = 300
#: How long after its channel was closed a child must have ended, in milliseconds.
_EXIT_TIME: Final = 100
#: How long it may take at the end to free the jobs of dead children, in milliseconds.
_LAST_REQUESTS_TIME: Final = 1_000

#: How many deaths are kept until a child can be informed.
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
        self._pool = ProcessPool(options.processes, clock)
        self._configured: Configured | None = None
        # The newest one is for new children. Older children keep the one that they started
        # with, which has their configuration.
        self._housekeeper: Housekeeper | None = None
        self._housekeepers: dict[str, Housekeeper] = {}
        self._selector = selectors.DefaultSelector()
        # Deaths of which no child could be informed yet; the oldest ones are dropped.
        self._deaths: deque[Died] = deque(maxlen=_MAX_DEATHS)
        # Workers and jobs, put here by the housekeeper's thread.
        self._overdue: SimpleQueue[tuple[str, list[str]]] = SimpleQueue()
        self._last_refusal = ""
        # Queues of actors that children have declared after their start.
        self._late_queues: set[str] = set()
        # The log line about the configuration, until it is logged.
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
            # The first child sends the configuration, and shows whether the app can be built.
            self._pool.slots[0].start_now()
            while self._exit_code is None or self._pool.children:
                self._pool.go_on_reloading()
                self._start_due()
                self._wait()
                self._reap()
                self._kill_overdue()
            self._selector.unregister(signals)
            self._close()
        return self._exit_code

    # Starting

    def _start_due(self) -> None:
        for slot in self._pool.due():
            try:
                child = self._spawn(
                    lane=Lane.ALONE if slot is self._pool.alone else Lane.ORDINARY
                )
            except OSError as error:
                logger.error("a process cannot be started: %s", error)
                slot.start_later(failed=True)
            else:
                slot.add_starting(child)

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
        child.reload = self._pool.reload
        self._selector.register(child.channel, selectors.EVENT_READ, child)
        logger.debug("started process %d as worker %s", child.process.pid, child.worker_id)
        return child

    # Waiting

    def _wait(self) -> None:
        """Wait for a message of a child, a signal, or the next time limit."""
        due = [self._pool.next_due()]
        for child in self._pool.children:
            due += [child.kill_at, child.cut_off_at]
        times = [at for at in due if at is not None]
        now = self._clock.monotonic()
        timeout = max(0.0, min(times) - now) / 1000 if times else None
        for key, _ in self._selector.select(timeout):
            if isinstance(key.data, Child):
                self._receive(key.data)
            elif isinstance(key.fileobj, SignalReader):
                self._handle_signals(key.fileobj)

    def _receive(self, child: Child) -> None:
        try:
            self._handle(child, child.channel.receive())
        except UnreadableMessageError as error:
            self._replace_garbled(child, error)
        if not child.channel.is_open:
            # SIGCHLD reports the end of the process.
            self._selector.unregister(child.channel)
            now = self._clock.monotonic()
            if child.ready_at is not None:
                # The operating system closes it when the process ends. If the process goes on,
                # a job has closed it, and the supervisor could not control the process.
                child.cut_off_at = now + _EXIT_TIME
            elif child.kill_at is None:
                child.kill_at = now + _OVERTIME

    def _replace_garbled(self, child: Child, error: UnreadableMessageError) -> None:
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
            # Messages of its own may have been lost.
            self._note_replace_request(
                child, ReplaceRequest("it cannot be understood", urgent=True)
            )

    def _handle(self, child: Child, messages: Sequence[ControlMessage]) -> None:
        for message in messages:
            match message:
                case Configured():
                    self._configure(child, message)
                case Serves():
                    self._note_queues(child, message)
                case Ready():
                    self._note_ready(child)
                case Refused():
                    self._note_refusal(child, message)
                case ReplaceRequest():
                    self._note_replace_request(child, message)

    def _configure(self, child: Child, message: Configured) -> None:
        if self._housekeeper is None or message != self._configured:
            # New code may come with another configuration, even with another broker.
            said = self._options
            engine = make_engine(message.settings, self._clock)
            former = self._housekeeper
            self._configured = message
            self._housekeeper = Housekeeper(
                engine, self._clock, self._queues(), self._start_alone, self._note_overdue
            )
            self._housekeeper.start()
            processes = describe_processes(said.processes, said.threads, said.processes_reason)
            self._ready_line = describe_start(message, self._queues(), engine, processes)
            self._end_unless_needed(former)
        self._housekeepers[child.worker_id] = self._housekeeper

    def _queues(self) -> list[str]:
        """The queues that any child serves."""
        if self._options.queues is not None:
            return self._options.queues
        declared = [] if self._configured is None else self._configured.queues
        return sorted({*declared, *self._late_queues})

    def _note_queues(self, child: Child, message: Serves) -> None:
        self._late_queues.update(message.queues)
        self._housekeepers[child.worker_id].queues = self._queues()
        logger.info(
            "process %d serves the %s, too: an actor was declared late",
            child.process.pid,
            describe_queues(message.queues),
        )

    def _note_ready(self, child: Child) -> None:
        if child.ready_at is not None:
            return
        child.note_ready(self._clock.monotonic())
        self._last_refusal = ""
        self._log_ready()
        self._housekeepers[child.worker_id].watch(child.worker_id, child.slots)
        logger.info("process %d is ready as worker %s", child.process.pid, child.worker_id)
        if child.process.poll() is None:
            self._let_serve(child)
        if not self._was_ready:
            self._was_ready = True
            for slot in self._pool.slots[1:]:
                slot.start_now()
        self._report_deaths()

    def _log_ready(self) -> None:
        # Logged once, and again when a reload brings another configuration.
        if self._configured is not None and self._ready_line:
            for warning in find_warnings(self._options.queues, self._configured):
                logger.warning("%s", warning)
            logger.info("ready: %s", self._ready_line)
            self._ready_line = ""

    def _let_serve(self, child: Child) -> None:
        replaced = self._pool.slot_of(child).take_over(child)
        if replaced is not None:
            # A child that asked to be replaced may finish its jobs without a limit. Otherwise
            # a job that causes this each time, and takes longer than the grace time, would
            # never end.
            has_time = replaced.wants_replacement and replaced.reload == self._pool.reload
            self._dismiss(replaced, None if has_time else self._grace())

    def _note_replace_request(self, child: Child, message: ReplaceRequest) -> None:
        if self._exit_code is not None:
            return
        logger.info("process %d is to be replaced: %s", child.process.pid, message.reason)
        slot = self._pool.slot_of(child)
        if message.urgent:
            slot.retire(child)
            self._dismiss(child, self._grace())
        elif child is slot.serving:
            child.wants_replacement = True
            slot.replace(soon=message.soon)

    def _dismiss(self, child: Child, grace: int | None) -> None:
        kill_at = None if grace is None else self._clock.monotonic() + grace + _OVERTIME
        child.order(Drain(grace), kill_at)

    def _note_refusal(self, child: Child, message: Refused) -> None:
        if message.reason == "usage" and not self._was_ready:
            self._refuse(message, EXIT_USAGE)
        elif message.reason == "engine" and not self._was_ready:
            self._refuse(message, EXIT_ENGINE)
        elif self._pool.is_tried_by(child):
            self._give_up_reload(message.text)
        elif message.text != self._last_refusal:
            # Logged once, not with every try.
            self._last_refusal = message.text
            logger.error("a worker process cannot start, will try again:\n%s", message.text)

    def _refuse(self, message: Refused, exit_code: int) -> None:
        logger.error("%s", message.text)
        self._exit_code = exit_code
        self._order_all(Quit(), _QUIT_TIME)

    def _start_alone(self) -> None:
        # Called in the housekeeper's thread. The signal wakes the loop of the main thread.
        if self._pool.alone.is_empty:
            self._pool.alone.start_now()
            os.kill(os.getpid(), signal.SIGCHLD)

    def _note_overdue(self, worker: str, jobs: list[str]) -> None:
        # As above.
        self._overdue.put((worker, jobs))
        os.kill(os.getpid(), signal.SIGCHLD)

    # Children that have ended

    def _reap(self) -> None:
        """Remove children that have ended; as process 1 of a container, also orphans."""
        while True:
            self._remove_ended()
            ours = {child.process.pid for child in self._pool.children}
            if os.getpid() != 1 or not reap_orphan(ours):
                return

    def _remove_ended(self) -> None:
        for child in self._pool.children:
            code = child.process.poll()
            if code is not None:
                self._handle(child, child.unread_messages())
                if self._pool.is_tried_by(child):
                    self._give_up_reload(f"process {child.process.pid}: {describe_death(code)}")
                self._pool.slot_of(child).remove(child)
                self._hand_back(child)
                self._release(child)
                self._report_deaths()

    def _report_deaths(self) -> None:
        """Inform a living child of deaths, so that the app's hooks are called there."""
        for child in self._pool.children:
            lives = child.ready_at is not None and child.process.poll() is None
            # A stopped child does not read, and the supervisor must not wait for it.
            while lives and self._deaths and not child.was_ordered and child.channel.is_read():
                child.channel.send(self._deaths[0])
                if not child.channel.is_open:
                    break
                self._deaths.popleft()

    def _hand_back(self, child: Child) -> None:
        code = child.process.returncode
        cause = describe_death(code)
        if child.is_cut_off and code == -signal.SIGKILL:
            cause = f"{cause}, for it had closed the connection to its supervisor"
        # Jobs of a child that was ordered to end, or was killed for not ending, get no crash.
        did_wrong = not child.was_killed and (code or not child.was_ordered)
        started = [job.job_id for job in child.slots.started()] if did_wrong else []
        if child.overdue:
            # The other jobs that it was running get no crash.
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
        housekeeper = self._housekeepers.pop(child.worker_id, self._housekeeper)
        if housekeeper is not None:
            housekeeper.unwatch(child.worker_id)
            is_known = child.slots.is_known or not did_wrong
            housekeeper.hand_back(child.worker_id, started if is_known else None, cause)
        self._end_unless_needed(housekeeper)

    def _end_unless_needed(self, housekeeper: Housekeeper | None) -> None:
        if housekeeper is not None and housekeeper not in (
            self._housekeeper,
            *self._housekeepers.values(),
        ):
            housekeeper.end()

    def _kill_overdue(self) -> None:
        now = self._clock.monotonic()
        while not self._overdue.empty():
            worker, jobs = self._overdue.get()
            for child in self._pool.children:
                if child.worker_id == worker and not child.overdue:
                    logger.error(
                        "process %d (worker %s) is stopped, or busy in C code: it does nothing"
                        " about jobs over their hard time limit, and is killed: %s",
                        child.process.pid,
                        worker,
                        ", ".join(jobs),
                    )
                    child.kill_for(jobs, now + _DUMP_TIME)
        for child in self._pool.children:
            if child.cut_off_at is not None and child.cut_off_at <= now:
                child.cut_off()
            if child.kill_at is not None and child.kill_at <= now:
                logger.error("process %d does not end: killing it", child.process.pid)
                child.kill()
                child.kill_at = now + _OVERTIME

    def _release(self, child: Child) -> None:
        if child.channel.fileno() in self._selector.get_map():
            self._selector.unregister(child.channel)
        child.release()

    # Signals

    def _handle_signals(self, signals: SignalReader) -> None:
        for number in signals.read():
            if number in _STOP_SIGNALS:
                self._stop(number)
            elif number == signal.SIGHUP:
                self._reload()

    def _reload(self) -> None:
        if self._exit_code is not None:
            return
        logger.info("SIGHUP: replacing all processes, one after the other")
        self._pool.begin_reload()
        for child in self._pool.children:
            if child.was_ordered:
                # It was given unlimited time. Now its code is old.
                self._dismiss(child, self._grace())

    def _give_up_reload(self, text: str) -> None:
        self._pool.stop_reload()
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
            self._order_all(Drain(grace), grace + _OVERTIME)
        else:
            self._exit_code = EXIT_SIGNALLED + number
            logger.warning("%s again: stopping at once", _name(number))
            # After the third signal nothing is waited for.
            self._order_all(Quit(), _QUIT_TIME if self._stop_signals == 2 else 0)

    def _grace(self) -> int:
        if self._options.grace is not None:
            return self._options.grace
        return 0 if self._configured is None else self._configured.settings.grace

    def _order_all(self, message: Drain | Quit, patience: int) -> None:
        self._pool.close()
        for child in self._pool.children:
            self._handle(child, child.unread_messages())
            child.order(message, self._clock.monotonic() + patience)
            if child.ready_at is None:
                # It has not fetched anything yet, and may be busy building its app.
                child.kill()

    def _close(self) -> None:
        if self._housekeeper is not None:
            self._housekeeper.end()
            self._housekeeper.join(_LAST_REQUESTS_TIME)


def _name(number: int) -> str:
    return signal.Signals(number).name


def _running(jobs: Sequence[str]) -> str:
    if not jobs:
        return "no job"
    return f"{len(jobs)} {'job' if len(jobs) == 1 else 'jobs'} ({', '.join(jobs)})"


def describe_death(code: int) -> str:
    """How a process ended. :param code: as of :mod:`subprocess`."""
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

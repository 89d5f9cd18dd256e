"""The threads of one worker: one fetches, one settles, one interrupts, others run jobs.

Async actors share the thread of the event loop. Only the fetcher and the settler call the
engine. Runner threads take deliveries from a queue and put settlements on another queue, so an
exception that is raised in a job cannot interrupt a connection. The threads of
``engine_calls.py`` make the engine calls that a job needs, such as sending another job.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from queue import Empty
from queue import SimpleQueue
from typing import Any
from typing import Final

from ...actors.broker import Broker
from ...actors.run import Run
from ...engines.listing import WorkerInfo
from ...errors import Interrupt
from ...errors import LeaseLost
from ...errors import Shutdown
from ...errors import TaskQError
from ...jobs.delivery import Delivery
from ...jobs.delivery import Released
from ...jobs.delivery import Settlement
from ...jobs.record import Lane
from ...loggers import get_logger
from ...loggers import keep_enabled
from ..identity import describe_worker
from ..interrupt import keep_out_of_forks
from ..liveness import generate_worker_id
from ..progress import add_progress
from ..runner import AsyncRunner
from ..runner import Runner
from ..slot_table import Slot
from ..slot_table import SlotTable
from .engine_backoff import Backoff
from .engine_backoff import log_failure
from .engine_calls import EngineCalls
from .event_loop import Loop
from .interrupter import Interrupter
from .lease import Lease
from .prefetch import Prefetch
from .settler import defective
from .settler import Settler

logger = get_logger(__name__)

#: How long one fetch waits, in milliseconds. New jobs end the wait.
_FETCH_TIMEOUT: Final = 30_000

#: Jobs that have waited for a thread for so long, in milliseconds, are released.
_HOARDING: Final = 1_000

#: How long the engine may be out of reach for a process, in milliseconds, while its supervisor
#: reaches it: a job may have used all file descriptors, or closed some.
_CUT_OFF: Final = 10_000

#: How long jobs have to end after ``Shutdown`` was raised in them, in milliseconds.
_INTERRUPT_TIME: Final = 1_000

#: How long the last settlements may take to store, in milliseconds ...
_FLUSH_TIME: Final = 2_000
#: ... and after a second stop signal, in seconds.
_HURRY: Final = 0.3

#: How long a fetcher waits before it checks the lease again, in seconds.
_MISTRUST: Final = 0.1

#: How often a thread that waits for the fetcher's reply looks for it, in seconds.
_GLANCE: Final = 0.005


class Worker:
    """Runs the jobs of some queues in threads of this process.

    :param broker: the broker of the app whose actors run.
    :param queues: names of the queues; None takes those of all declared actors, and those of
        actors that are declared later.
    :param worker_threads: how many jobs run at the same time, besides those of async
        actors, of which there are ``TASKQ_ASYNC_CONCURRENCY`` at once.
    :param worker_id: the name under which it is registered.
    :param slots_fd: the file of the slot table; None for private memory.
    :param lane: run only jobs of this lane; isolated jobs run one at a time.
    :param on_replace: called with the reason when this process should be replaced, because a
        job does not end; None leaves it as it is.
    :param on_queues: called with the queues of actors that were declared after the start.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        queues: Iterable[str] | None = None,
        worker_threads: int = 8,
        worker_id: str | None = None,
        slots_fd: int | None = None,
        lane: Lane = Lane.ORDINARY,
        on_replace: Callable[[str], None] | None = None,
        on_queues: Callable[[list[str]], None] = lambda queues: None,
    ) -> None:
        self.broker = broker
        self.queues = sorted(broker.get_declared_queues() if queues is None else queues)
        self.worker_threads = worker_threads
        self.id = worker_id or generate_worker_id()
        self._clock = broker.clock
        self._workers = broker.engine.workers
        self._on_replace = on_replace
        self._on_queues = on_queues
        # The number of actors whose queues are known; None if the queues were given.
        self._known_actors = len(broker.actors) if queues is None else None
        self._consumer = broker.engine.consumer(self.queues, self.id, lane)
        coroutines = 1 if lane is Lane.ALONE else broker.settings.async_concurrency
        # The slot table, which another process reads, cannot grow later. So an event loop
        # cannot be started for an async actor that is declared after the start.
        if not any(one.is_async for one in broker.actors.values()):
            coroutines = 0
        self.slots = SlotTable(worker_threads + coroutines, slots_fd)
        self._has_supervisor = slots_fd is not None
        self._started_at: int | None = None
        self._lease = Lease(
            self._workers,
            self.id,
            broker.settings.lease,
            broker.clock,
            self.slots,
            self._describe,
        )
        self._runners = [
            Runner(broker, on_start=partial(self._note_limits, slot))
            for slot in self.slots.slots[:worker_threads]
        ]
        self._async_runners = [
            AsyncRunner(broker, on_start=partial(self._note_limits, slot))
            for slot in self.slots.slots[worker_threads : worker_threads + coroutines]
        ]
        self._loop = (
            Loop(coroutines, self._run_async, self._note_coroutines) if coroutines else None
        )
        self._interrupter = Interrupter(
            [*self._runners, *self._async_runners], broker.clock, self._give_up
        )
        # Runs that do not end, and were settled without their thread.
        self._given_up: dict[Runner, Run] = {}
        self._call_engine = broker.call_engine
        self._wait_in_engine = broker.wait_in_engine
        self._engine_calls = EngineCalls(self._call_engine, worker_threads)
        # Fetcher and settler -> runners -> settler; None ends a runner.
        self._deliveries: SimpleQueue[Delivery | None] = SimpleQueue()
        self._prefetch = Prefetch(worker_threads, broker.clock)
        self._hungry = threading.Event()
        self._stopping = threading.Event()
        # Whether that is set, as a plain attribute: it is read before each job.
        self._is_stopping = False
        # The back-off of the fetcher, and when the lease was first renewed during a failure.
        self._backoff = Backoff(self._stopping, broker.clock)
        self._reached_at: float | None = None
        self._hurrying = threading.Event()
        self._runners_left = worker_threads
        self._runners_ended = threading.Condition()
        self._fetcher = self._thread(self._fetch_until_stopped, "fetcher")
        self._settler = Settler(
            broker,
            self._consumer,
            self._prefetch,
            self._interrupter,
            running=lambda: self.runs,
            may_fetch=self._may_start,
            on_settled=self._take_in_more,
            hurrying=self._hurrying,
        )
        self._threads = [
            self._thread(self._run_until_stopped, f"runner-{slot}", slot)
            for slot in range(worker_threads)
        ]

    def _thread(self, target: Callable[..., None], name: str, *args: Any) -> threading.Thread:
        return threading.Thread(target=target, args=args, name=f"taskq-{name}", daemon=True)

    @property
    def threads(self) -> list[threading.Thread]:
        """The threads that run jobs."""
        return list(self._threads)

    @property
    def runs(self) -> list[Run]:
        """The current runs."""
        runs = [one.current for one in (*self._runners, *self._async_runners)]
        return [run for run in runs if run is not None]

    @property
    def finished(self) -> int:
        """How many runs have ended and were settled."""
        return self._settler.finished

    @property
    def is_idle(self) -> bool:
        """Whether it holds no job."""
        return not self._prefetch and not self._settler.is_settling

    def has_finished(self, timeout: float) -> bool:
        """Whether no job is queued or scheduled in its queues, and it holds none.

        :param timeout: seconds that the fetcher may take to answer.
        """
        taken = self._prefetch.taken
        if not self.is_idle or self._has_waiting():
            return False
        # The fetcher may have claimed a job that has not arrived here yet. It has arrived when
        # the call has returned.
        answers = self._prefetch.answers
        self._consumer.interrupt()
        until = time.monotonic() + timeout
        while self._prefetch.answers == answers:
            if self._stopping.wait(_GLANCE) or time.monotonic() > until:
                return False
        return self._prefetch.taken == taken and not self._has_waiting()

    def _has_waiting(self) -> bool:
        depths = self._call_engine(self.broker.engine.queues.depths)
        return not depths.keys().isdisjoint(self.queues)

    # Start and stop

    @property
    def is_broken(self) -> bool:
        """Whether a defect has ended one of its threads."""
        threads = (*self._threads, self._fetcher, self._settler, self._interrupter, self._loop)
        is_whole = all(one.is_alive() for one in threads if one is not None)
        return not self._stopping.is_set() and not is_whole

    def start(self, announce: Callable[[], None] = lambda: None) -> None:
        """Register under a lease and start the threads.

        :param announce: called before the first job is fetched.
        """
        keep_enabled()
        self.broker.emit_before("worker_boot", self)
        keep_out_of_forks()
        self._lease.begin()
        self.broker.call_engine = self._engine_calls.call
        self.broker.wait_in_engine = self._engine_calls.wait
        announce()
        self._interrupter.start()
        if self._loop is not None:
            self._loop.start()
        self._settler.start()
        for thread in (*self._threads, self._fetcher):
            thread.start()
        self._hungry.set()
        self.broker.emit_after("worker_boot", self)

    def tick(self) -> None:
        """Do what no event causes. Call it about once a second.

        Renews a lease that the supervisor did not renew, releases jobs that wait for threads
        with long jobs, and serves the queues of actors that were declared after the start.
        """
        if self._lease.is_neglected() and not self._lease.renew():
            self._recover_lease()
        if self.runs:
            self._settler.report()
        if self._is_hoarding():
            self._release_unstarted()
        if self._known_actors not in (None, len(self.broker.actors)):
            self._add_late_queues()
        if self._on_replace is not None and not self._stopping.is_set() and self._is_cut_off():
            self.stop_fetching()
            self._on_replace("it cannot reach the engine, which its supervisor can")

    def _add_late_queues(self) -> None:
        # A job has imported a module with actors. No other process may know them. (Not all
        # queues of the broker: it also has queues to which this app only sends.)
        actors = list(self.broker.actors.values())
        self._known_actors = len(actors)
        late = sorted({actor.queue_name for actor in actors}.difference(self.queues))
        for queue in late:
            self._consumer.add_queue(queue)
        if late:
            self.queues = sorted([*self.queues, *late])
            self._consumer.interrupt()
            self._on_queues(late)

    def _is_cut_off(self) -> bool:
        """Whether the engine is out of reach for this process, but not for its supervisor."""
        failing = [one.failing for one in (self._backoff, self._settler.backoff)]
        times = [one for one in failing if one is not None]
        if not times:
            self._reached_at = None
            return False
        began, last = max(times, key=lambda one: one[1] - one[0])
        # The supervisor renews the lease. Once it can, this process gets some more tries.
        renewed_at = self.slots.renewed_at
        if self._reached_at is None and renewed_at > began:
            self._reached_at = renewed_at
        return (
            self._reached_at is not None
            and last - self._reached_at > _CUT_OFF
            and renewed_at - self._reached_at > _CUT_OFF / 2
        )

    def interrupt(self, exception: type[Interrupt], wanted: Callable[[Run], bool]) -> None:
        """Interrupt the runs for which ``wanted`` is true."""
        for run in self.runs:
            if wanted(run):
                self._interrupter.interrupt(run, exception)

    def stop_fetching(self) -> None:
        """Start no more jobs, and release those that have not started."""
        self._is_stopping = True
        self._stopping.set()
        self._hungry.set()
        self._consumer.interrupt()
        self._release_unstarted()

    def stop(self, grace: int) -> None:
        """Stop fetching, let running jobs finish, release the others, and end.

        :param grace: how long running jobs may continue, in milliseconds. Then ``Shutdown``
            is raised in them and they are released.
        """
        self.stop_fetching()
        self.broker.emit_before("worker_shutdown", self)
        for _ in self._threads:
            self._deliveries.put(None)
        if not self._wait_for_runners(grace):
            self._interrupt_runners()
        self._join(self._fetcher)
        self._release_unstarted()
        self._release_stuck()
        if self._loop is not None:
            self._loop.stop(_HURRY)
        self._interrupter.stop()
        self._settler.end()
        if self._join(self._settler):
            self._deregister()
            self._consumer.close()
        else:
            logger.error("worker %s: the last settlements cannot be stored", self.id)
            self.hurry()
        if self.broker.call_engine == self._engine_calls.call:
            self.broker.call_engine = self._call_engine
            self.broker.wait_in_engine = self._wait_in_engine
        self._engine_calls.close()
        self.broker.emit_after("worker_shutdown", self)

    def hurry(self) -> None:
        """Let a :meth:`stop` in another thread end without waiting any longer."""
        self._hurrying.set()
        with self._runners_ended:
            self._runners_ended.notify_all()

    def _wait_for_runners(self, timeout: int) -> bool:
        with self._runners_ended:
            self._runners_ended.wait_for(
                lambda: self._have_ended() or self._hurrying.is_set(), timeout / 1000
            )
            return self._have_ended()

    def _have_ended(self) -> bool:
        given_up = [one for one, run in self._given_up.items() if one.current is run]
        coroutines = 0 if self._loop is None else len(self._loop)
        return self._runners_left + coroutines <= len(given_up)

    def _join(self, thread: threading.Thread | Settler) -> bool:
        """Wait for a short time for a thread that may be waiting for the engine.

        :return: whether it has ended.
        """
        until = self._clock.monotonic() + _FLUSH_TIME
        while thread.is_alive() and self._clock.monotonic() < until:
            thread.join(_HURRY)
            if self._hurrying.is_set():
                break
        return not thread.is_alive()

    def _interrupt_runners(self) -> None:
        self.interrupt(Shutdown, lambda message: True)
        self._wait_for_runners(_INTERRUPT_TIME)

    def _release_stuck(self) -> None:
        # Jobs that cannot be interrupted. Should one end well after all, its own
        # settlement comes too late and is refused.
        for run in self.runs:
            if all(run is not one for one in self._given_up.values()):
                back = Released(delivery=run.delivery)
                unreported = run.unreported
                self._settler.put(
                    back if unreported is None else add_progress(back, unreported)
                )

    def _deregister(self) -> None:
        try:
            self._workers.hand_back(self.id, (), "stopped")
        except TaskQError as error:
            logger.warning("worker %s could not be signed off: %s", self.id, error)

    # Lease

    def _recover_lease(self) -> None:
        # Another worker may have the jobs of this one by now. Jobs that have started go on, and
        # their settlements may be refused.
        logger.warning(
            "worker %s lost its lease: the %d jobs that it held may run elsewhere",
            self.id,
            len(self._prefetch),
        )
        self._release_unstarted()
        self.interrupt(LeaseLost, lambda message: True)
        self._lease.begin()

    # Fetching

    def _fetch_until_stopped(self) -> None:
        self.broker.emit_after("consumer_thread_boot", threading.current_thread())
        backoff = self._backoff
        while not self._stopping.is_set():
            self._hungry.wait()
            self._hungry.clear()
            while not self._stopping.is_set() and (limit := self._prefetch.ask()):
                if not self._lease.is_trusted(self._clock.monotonic()):
                    # Jobs that were fetched now would not be started.
                    self._prefetch.answered()
                    self._stopping.wait(_MISTRUST)
                    continue
                try:
                    self._accept(self._consumer.fetch(limit, _FETCH_TIMEOUT))
                    backoff.reset()
                except LeaseLost:
                    self._attempt(self._recover_lease, backoff)
                except Exception as error:
                    log_failure("fetch", error)
                    backoff.wait(error)
                finally:
                    self._prefetch.answered()
        self.broker.emit_before("consumer_thread_shutdown", threading.current_thread())

    def _attempt(self, action: Callable[[], None], backoff: Backoff) -> None:
        try:
            action()
        except Exception as error:
            log_failure("register", error)
            backoff.wait(error)

    def _accept(self, deliveries: list[Delivery]) -> None:
        self._prefetch.take_in(deliveries)
        if self._loop is not None:
            for_loop = [one for one in deliveries if self._is_async(one)]
            if for_loop:
                self._loop.put(for_loop)
                deliveries = [one for one in deliveries if not self._is_async(one)]
        for delivery in deliveries:
            self._deliveries.put(delivery)

    def _is_async(self, delivery: Delivery) -> bool:
        # Looked up each time: an actor may have been declared since, by a late import.
        actor = self.broker.actors.get(delivery.actor)
        return actor is not None and actor.is_async

    def _take_in_more(self, deliveries: list[Delivery]) -> None:
        """Take deliveries that a settlement has returned."""
        self._accept(deliveries)
        if self._prefetch.is_short():
            # No more jobs were ready: from now on the fetcher waits for them. Checked after
            # each settlement: a fetch that returned nothing during a settlement counted jobs
            # that were still held, and the fetcher may be asleep.
            self._hungry.set()

    def _is_hoarding(self) -> bool:
        busy = sum(runner.current is not None for runner in self._runners)
        is_behind = busy == self.worker_threads and not self._deliveries.empty()
        if not is_behind and not (self._loop is not None and self._loop.is_behind):
            return False
        started = {job.job_id for job in self.slots.started()}
        return self._prefetch.has_waited(_HOARDING, besides=started)

    def _release_unstarted(self) -> None:
        for waiting in () if self._loop is None else self._loop.take_back():
            self._settler.put(Released(delivery=waiting))
        ends = 0
        try:
            while True:
                delivery = self._deliveries.get_nowait()
                if delivery is None:
                    ends += 1
                else:
                    self._settler.put(Released(delivery=delivery))
        except Empty:
            for _ in range(ends):
                self._deliveries.put(None)

    # Running

    def _run_until_stopped(self, number: int) -> None:
        try:
            self.broker.emit_after("worker_thread_boot", threading.current_thread())
            runner, slot = self._runners[number], self.slots.slots[number]
            self._engine_calls.serve_this_thread(runner.raise_interrupt)
            while (delivery := self._deliveries.get()) is not None:
                self._settler.put(self._run(slot, runner, delivery))
            self.broker.emit_before("worker_thread_shutdown", threading.current_thread())
        finally:
            self._note_ended(-1)

    def _run(self, slot: Slot, runner: Runner, delivery: Delivery) -> Settlement:
        now = self._clock.monotonic()
        if self._is_stopping or not self._lease.is_trusted(now):
            return Released(delivery=delivery)
        try:
            slot.start(delivery.id, now)
            return runner.run(delivery, now)
        except BaseException as error:
            return _settle_defect(delivery, error)
        finally:
            slot.end()

    async def _run_async(self, number: int, delivery: Delivery) -> None:
        runner = self._async_runners[number]
        slot = self.slots.slots[self.worker_threads + number]
        self._prefetch.set_aside(1)
        settlement: Settlement = Released(delivery=delivery)
        try:
            now = self._clock.monotonic()
            if not self._is_stopping and self._lease.is_trusted(now):
                slot.start(delivery.id, now)
                settlement = await runner.run_async(delivery, now)
        except BaseException as error:
            settlement = _settle_defect(delivery, error)
        finally:
            slot.end()
            self._prefetch.set_aside(-1)
            self._settler.put(settlement)

    def _note_coroutines(self) -> None:
        """The number of running coroutines has changed."""
        if self._prefetch.is_short():
            self._hungry.set()
        if self._stopping.is_set():
            self._note_ended()

    def _may_start(self) -> bool:
        return not self._is_stopping and self._lease.is_trusted(self._clock.monotonic())

    def _note_ended(self, difference: int = 0) -> None:
        with self._runners_ended:
            self._runners_left += difference
            self._runners_ended.notify_all()

    def _describe(self) -> WorkerInfo:
        if self._started_at is None:
            self._started_at = self.broker.engine.now()
        return describe_worker(
            self.queues, self._started_at, has_supervisor=self._has_supervisor
        )

    def _note_limits(self, slot: Slot, run: Run) -> None:
        if run.kill_at != math.inf:
            slot.limit(run.kill_at)
            if run.limit_at < self._interrupter.wakes_at:
                self._interrupter.expect(run.limit_at)

    def _give_up(self, runner: Runner, run: Run) -> None:
        """Settle a run that has not ended long after its time limit, and keeps its thread."""
        settlement = runner.abandon(run)
        reason = (
            f"job {run.delivery.id} of actor {run.delivery.actor!r} does not end though it is"
            f" {self.broker.settings.hard_limit_grace} ms over its time limit"
        )
        error = getattr(settlement, "error", None)
        logger.critical("%s; it was here:\n%s", reason, error.traceback if error else "")
        self._settler.put(settlement)
        if runner.current is run:
            # The run is settled, so the supervisor need not kill this process for it.
            slot = self.slots.slots[[*self._runners, *self._async_runners].index(runner)]
            slot.limit(math.inf)
        with self._runners_ended:
            self._given_up[runner] = run
            self._runners_ended.notify_all()
        if self._on_replace is not None:
            self.stop_fetching()
            self._on_replace(reason)


def _settle_defect(delivery: Delivery, error: BaseException) -> Settlement:
    # A defect of this package must neither end a thread nor lose the job, also if the app's
    # logging fails.
    with suppress(BaseException):
        logger.error("job %s could not be run", delivery.id, exc_info=error)
    return defective(delivery, error)

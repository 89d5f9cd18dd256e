"""Runs jobs in the current thread: in a test, or where they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Coroutine
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context
from contextvars import ContextVar
from typing import Any
from typing import Final
from typing import NamedTuple

import msgspec

from ..actors.broker import Broker
from ..actors.run import Run
from ..engines.base import Consumer
from ..engines.memory import MemoryEngine
from ..errors import Interrupt
from ..errors import ResultTimeout
from ..errors import SkipMessage
from ..jobs.delivery import Delivery
from ..jobs.delivery import Failed
from ..jobs.delivery import Retried
from ..jobs.delivery import Settlement
from ..jobs.record import JobError
from ..jobs.record import JobRecord
from ..jobs.record import Lane
from ..jobs.record import Status
from .inline_event_loop import inline_loop
from .liveness import generate_worker_id
from .outcome import actors_frames
from .runner import AsyncRunner
from .runner import Runner
from .stored_outcomes import announce
from .stored_outcomes import announce_stored

#: How many runs of a job the caller waits for at most.
MAX_RUNS: Final = 100

#: How many jobs may be nested. Each one uses some of the stack.
MAX_DEPTH: Final = 20

#: Not Ctrl-C, nor what a test runner raises to end a test: these are no errors of the job.
_CATCHES: Final = (Exception, Interrupt, SystemExit, asyncio.CancelledError)

#: The prefix of the ids of inline workers.
_PREFIX: Final = "inline-"

#: The jobs that wait for the current code, from the outermost one.
_held_up: Final[ContextVar[tuple[str, ...]]] = ContextVar("flask_taskq.held_up", default=())

#: How many jobs have each sent the next one, up to the current job.
chain_length: Final[ContextVar[int]] = ContextVar("flask_taskq.chain_length", default=0)


class Ran(NamedTuple):
    """One run of a job that has ended.

    :param settlement: its outcome.
    :param record: the job afterwards.
    :param error: what the actor raised, if it did.
    """

    settlement: Settlement
    record: JobRecord
    error: BaseException | None


class InlineWorker:
    """Runs jobs one by one, each in the calling thread.

    :param broker: of the app whose actors run.
    :param engine: the broker's.
    :param move_to: moves the time to this moment, in milliseconds since the epoch; None if
        time passes by itself.
    :param pauses: whether a job that failed waits for its next run.
    """

    def __init__(
        self,
        broker: Broker,
        engine: MemoryEngine,
        *,
        move_to: Callable[[int], None] | None = None,
        pauses: bool = True,
    ) -> None:
        self._broker = broker
        self._engine = engine
        self._move_to = move_to
        self._pauses = pauses
        self._ran: list[Ran] | None = None

    # Running

    def run_next(
        self, *, only: str | None = None, queues: Collection[str] | None = None
    ) -> Ran | None:
        """Run the next job that may run now.

        :param only: the id of the job to run; None for the next one.
        :param queues: run only jobs of these queues.
        :return: None if there is none.
        """
        with self._claim(only, queues) as claimed:
            if claimed is None:
                return None
            consumer, delivery = claimed
            runner = _InlineRunner(self._broker, catches=_CATCHES, may_release=False)
            token = _held_up.set((*_held_up.get(), delivery.id))
            try:
                settlement = _apart(runner.run, delivery)
            finally:
                _held_up.reset(token)
            return self._store(consumer, settlement, runner.error)

    async def run_beside(self, job_id: str) -> Ran | None:
        """Run a job of an async actor in a task of the loop, without waiting for it."""
        with self._claim(job_id, None) as claimed:
            if claimed is None:
                return None
            consumer, delivery = claimed
            runner = AsyncRunner(self._broker, catches=_CATCHES, may_release=False)
            _held_up.set((delivery.id,))  # the task has a context of its own
            settlement = await runner.run_async(delivery)
            return self._store(consumer, settlement, None)

    def fail(self, job_id: str, error: JobError) -> None:
        """Let a job fail without running it."""
        with self._claim(job_id, None) as claimed:
            if claimed is not None:
                consumer, delivery = claimed
                self._store(consumer, Failed(delivery=delivery, error=error), None)

    @contextmanager
    def collecting(self) -> Iterator[list[Ran]]:
        """A list to which each run is added that ends in the block, also nested runs."""
        before, self._ran = self._ran, []
        try:
            yield self._ran
        finally:
            self._ran = before

    @contextmanager
    def _claim(
        self, only: str | None, queues: Collection[str] | None
    ) -> Iterator[tuple[Consumer, Delivery] | None]:
        # A worker for each job: a test may move the clock beyond the lease of one, or kill it.
        worker = _PREFIX + generate_worker_id()
        workers = self._engine.workers
        workers.register(worker)
        try:
            yield self._fetch(worker, only, queues)
        finally:
            workers.hand_back(worker, (), "stopped")

    def _fetch(
        self, worker: str, only: str | None, queues: Collection[str] | None
    ) -> tuple[Consumer, Delivery] | None:
        names = sorted(self._broker.get_declared_queues() if queues is None else queues)
        for lane in Lane:
            consumer = self._engine.consumer(names, worker, lane)
            deliveries = consumer.fetch(1, 0) if only is None else consumer.claim([only])
            if deliveries:
                return consumer, deliveries[0]
        return None

    def _store(
        self, consumer: Consumer, settlement: Settlement, error: BaseException | None
    ) -> Ran:
        if isinstance(settlement, Retried) and not self._pauses:
            settlement = msgspec.structs.replace(settlement, at=self._broker.engine.now())
        announce(self._broker, [settlement])
        announce_stored(self._broker, [settlement], consumer.settle_if_held([settlement]))
        # Not by the broker: a record may be past its retention as soon as it is final.
        record = self._engine.store.table[settlement.delivery.id].record
        ran = Ran(settlement, record, error)
        if self._ran is not None:
            self._ran.append(ran)
        return ran

    # Waiting

    def run_awaited(self, job_id: str, timeout: int | None) -> None:
        """Run a job that the calling code waits for, unless another thread runs it.

        No real time passes: a job that would not end in time raises at once.

        :param timeout: how long the code would wait, in milliseconds; None without a limit.
        :raises ResultTimeout: the job would not end in that time, or not before the caller
            stops waiting.
        """
        until = None if timeout is None else self._broker.engine.now() + timeout
        for _ in range(MAX_RUNS):
            record = self._engine.jobs.get(job_id)
            if record is None or record.status.is_final:
                return
            self._refuse_deadlock(record)
            if record.status is Status.RUNNING or self.has_worker():
                return  # in another thread, for which it is right to wait
            if record.status is Status.SCHEDULED:
                self._wait_for_turn(record, until, timeout)
            self.run_next(only=job_id)
        raise ResultTimeout(f"job {job_id} has not ended after {MAX_RUNS} runs")

    def is_blocked(self, actor_name: str) -> bool:
        """Whether a job of this actor cannot run before the calling code has ended, because
        that runs in the event loop of the job."""
        actor = self._broker.actors.get(actor_name)
        return actor is not None and actor.is_async and inline_loop.runs_here

    def _refuse_deadlock(self, record: JobRecord) -> None:
        held_up = _held_up.get()
        if held_up and record.id == held_up[-1]:
            raise ResultTimeout(f"{_name(record)} waits for itself, so it would never end")
        if record.id in held_up:
            raise ResultTimeout(
                f"{_name(record)} waits for the job that waits for it here, so none of them"
                " would ever end"
            )
        if self.is_blocked(record.actor):
            raise ResultTimeout(
                f"{_name(record)} cannot run while the job that waits for it holds up the event"
                " loop that both of them need: await job.result() in place of"
                " get_result(block=True)"
            )
        if len(held_up) >= MAX_DEPTH:
            raise ResultTimeout(
                f"{_name(record)} would be the {MAX_DEPTH + 1}th of jobs that wait for each"
                " other: does one send itself again, and wait for that?"
            )

    def _wait_for_turn(self, record: JobRecord, until: int | None, timeout: int | None) -> None:
        now, due_at = self._broker.engine.now(), record.scheduled_for or 0
        if due_at <= now:
            return
        if self._move_to is None:
            raise ResultTimeout(
                f"{_name(record)} may run in {due_at - now:,} ms, and nobody moves the time on"
                " until then: JobTester does"
            )
        if until is not None and due_at > until:
            self._move_to(until)
            raise ResultTimeout(
                f"{_name(record)} is {record.status} after {timeout:,} ms of the test's time:"
                f" it may run {due_at - until:,} ms later"
            )
        self._move_to(due_at)

    def has_worker(self) -> bool:
        """Whether a worker in other threads has a lease, and so runs jobs."""
        with self._engine.store.changed:
            return not all(one.startswith(_PREFIX) for one in self._engine.store.leases)


class _InlineRunner(Runner):
    #: What the actor raised, if it did.
    error: BaseException | None = None

    def _run_coroutine(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return inline_loop.run(coroutine)

    def _settle(self, run: Run) -> Settlement:
        error = run.exception
        if error is not None and not isinstance(error, SkipMessage):
            self.error = error.with_traceback(actors_frames(error))
        return super()._settle(run)


def _apart(run: Callable[[Delivery], Settlement], delivery: Delivery) -> Settlement:
    """Run a job without the context variables of the caller, as in a worker: without a request
    above all. Only the variables about nested jobs are copied."""
    context = Context()
    variables: tuple[ContextVar[Any], ...] = (_held_up, chain_length)
    for variable in variables:
        context.run(variable.set, variable.get())
    return context.run(run, delivery)


def _name(record: JobRecord) -> str:
    return f"job {record.id} of actor {record.actor!r}"

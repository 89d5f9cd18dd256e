"""Jobs that run where they are sent: ``TASKQ_EAGER``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from collections.abc import Sequence

import msgspec

from ..actors.broker import Broker
from ..actors.hooks import Middleware
from ..clock import Clock
from ..config import Settings
from ..engines.base import Enqueued
from ..engines.memory import MemoryEngine
from ..jobs.delivery import Envelope
from ..jobs.delivery import Retried
from ..jobs.record import JobError
from ..loggers import get_logger
from .inline import chain_length
from .inline import InlineWorker
from .inline import MAX_DEPTH
from .inline import MAX_RUNS
from .inline import Ran
from .inline_event_loop import inline_loop

logger = get_logger(__name__)


def make_eager_broker(
    settings: Settings, clock: Clock, middleware: Iterable[Middleware]
) -> Broker:
    """A broker that runs jobs before ``send()`` returns."""
    engine = EagerEngine(settings, clock)
    broker = Broker(engine, settings, clock, middleware)
    worker = InlineWorker(broker, engine, pauses=False)
    broker.run_at_once = EagerRunner(worker, engine).run
    broker.run_awaited = worker.run_awaited
    return broker


class EagerEngine(MemoryEngine):
    """Keeps the records of jobs that run when they are sent.

    In memory, whatever ``TASKQ_BROKER_URL`` says: in the app's own engine, a worker could
    take a job away from the sender, and a test would leave its jobs behind.
    """

    def enqueue(self, envelopes: Sequence[Envelope]) -> list[Enqueued]:
        at_once = {"delay": None, "due_at": None}
        return super().enqueue([msgspec.structs.replace(one, **at_once) for one in envelopes])


class EagerRunner:
    """Runs the jobs of a broker in the thread that sends them, and their follow-ups.

    :param worker: runs one job.
    :param engine: the broker's.
    """

    def __init__(self, worker: InlineWorker, engine: EagerEngine) -> None:
        self._worker = worker
        self._engine = engine
        # Written by the loop's thread, which may be any.
        self._beside: set[asyncio.Task[None]] = set()

    def run(self, job_ids: Sequence[str]) -> None:
        """Run jobs that were stored, one after the other, until each has its outcome.

        One of an async actor that an async job has sent is only started: the loop of both
        goes on when its sender awaits something.
        """
        depth = chain_length.get()
        for job_id in job_ids:
            # So a sender runs its own job, and not what another thread has just sent. A lock
            # around each send would do that, too, and stop for ever when a job waits for a
            # thread that sends.
            self._run_one(job_id, depth)
        if depth == 0:
            while self._beside and not inline_loop.runs_here:
                inline_loop.run(_wait_for(list(self._beside)))
            self._engine.jobs.prune()

    def _run_one(self, job_id: str, depth: int) -> None:
        record = self._engine.jobs.get(job_id)
        if record is None:
            return
        if depth >= MAX_DEPTH:
            self._worker.fail(job_id, _too_deep(job_id, record.actor))
        elif self._worker.is_blocked(record.actor):
            task = inline_loop.spawn(self._run_beside(job_id, depth))
            self._beside.add(task)
            task.add_done_callback(self._beside.discard)
        else:
            token = chain_length.set(depth + 1)
            try:
                for _ in range(MAX_RUNS):
                    if self._is_over(self._worker.run_next(only=job_id)):
                        break
            finally:
                chain_length.reset(token)

    async def _run_beside(self, job_id: str, depth: int) -> None:
        chain_length.set(depth + 1)
        for _ in range(MAX_RUNS):
            if self._is_over(await self._worker.run_beside(job_id)):
                break

    def _is_over(self, ran: Ran | None) -> bool:
        """Whether no other run may follow; what follows from this one is run."""
        if ran is None:
            return True
        if ran.settlement.follow_ups:
            self.run([envelope.id for envelope in ran.settlement.follow_ups])
        return not isinstance(ran.settlement, Retried)


def _too_deep(job_id: str, actor_name: str) -> JobError:
    text = (
        f"it follows from {MAX_DEPTH} other jobs, each of which has sent the next one, and with"
        f" TASKQ_EAGER a job runs before its sender goes on; does actor {actor_name!r} send"
        " itself again and again?"
    )
    logger.error("job %s of actor %r failed: %s", job_id, actor_name, text)
    return JobError(type="RecursionError", message=text)


async def _wait_for(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)

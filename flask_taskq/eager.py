"""Jobs that run where they are sent: ``TASKQ_EAGER``."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Final

import msgspec

from .broker import Broker
from .clock import Clock
from .config import Settings
from .engines.base import Consumer
from .engines.base import Envelope
from .engines.base import GivenBack
from .engines.base import Retry
from .engines.memory import MemoryEngine
from .errors import Interrupt
from .hooks import Middleware
from .loggers import get_logger
from .worker.runner import emit_outcomes
from .worker.runner import Runner
from .worker.worker import generate_worker_id

logger = get_logger(__name__)

#: How often a job runs at most. One that is retried for ever would never let go of its
#: sender.
MAX_RUNS: Final = 100

#: How many jobs may be inside of each other. One that sends itself again, to look once more
#: in a minute, would fill the stack.
MAX_DEPTH: Final = 20

_depth: Final[ContextVar[int]] = ContextVar("flask_taskq.eager_depth", default=0)


def make_eager_broker(
    settings: Settings, clock: Clock, middleware: Iterable[Middleware]
) -> Broker:
    """A broker that runs jobs before whoever sent them goes on."""
    engine = EagerEngine(settings, clock)
    broker = Broker(engine, settings, clock, middleware)
    broker.run_at_once = EagerRunner(broker, engine).run
    return broker


class EagerEngine(MemoryEngine):
    """Keeps the records of jobs that run when they are sent.

    In memory, whatever ``TASKQ_BROKER_URL`` says: in the app's own engine, a worker could
    take a job away from the sender, and a test would leave its jobs behind.
    """

    def enqueue(self, envelopes: Sequence[Envelope]) -> None:
        super().enqueue([msgspec.structs.replace(one, due_at=None) for one in envelopes])


class EagerRunner:
    """Runs the jobs of a broker in the thread that sends them.

    :param broker: of the app whose actors run.
    :param engine: the broker's.
    """

    def __init__(self, broker: Broker, engine: EagerEngine) -> None:
        self._broker = broker
        self._engine = engine

    def run(self, job_ids: Sequence[str]) -> None:
        """Run jobs that were stored, one after the other, until each has its outcome."""
        depth = _depth.get()
        if depth >= MAX_DEPTH:
            logger.warning(
                "TASKQ_EAGER: %d jobs are inside of each other, so what the innermost one"
                " sends stays queued: %s",
                depth,
                ", ".join(job_ids),
            )
            return
        token = _depth.set(depth + 1)
        try:
            for job_id in job_ids:
                self._run_one(job_id)
            self._engine.jobs.prune()
        finally:
            _depth.reset(token)

    def _run_one(self, job_id: str) -> None:
        workers = self._engine.workers
        worker = generate_worker_id()
        queues = sorted(self._broker.get_declared_queues())
        # So a sender runs its own job, and not what another thread has just sent. A lock
        # around each send would do that, too, and stop for ever when a job waits for a thread
        # that sends.
        consumer = self._engine.consumer(queues, worker, only=job_id)
        try:
            for _ in range(MAX_RUNS):
                workers.register(worker)
                if not self._run_once(consumer):
                    break
        finally:
            consumer.close()
            workers.hand_back(worker, (), "stopped")

    def _run_once(self, consumer: Consumer) -> bool:
        """Whether there may be another run."""
        deliveries = consumer.fetch(1, timeout=0)
        if not deliveries:
            return False
        # Ctrl-C, and what a test runner raises to end a test, is not for the job's record.
        runner = Runner(
            self._broker, catches=(Exception, Interrupt, SystemExit), may_put_off=False
        )
        settlement = runner.run(deliveries[0])
        if isinstance(settlement, Retry):
            settlement = msgspec.structs.replace(settlement, at=self._broker.clock.now())
        emit_outcomes(self._broker, "before", [settlement])
        consumer.settle_if_held([settlement])
        emit_outcomes(self._broker, "after", [settlement])
        return not isinstance(settlement, GivenBack)

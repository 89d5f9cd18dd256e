"""The thread that stores the settlements and the reports of a worker."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from enum import Enum
from queue import Empty
from queue import SimpleQueue
from typing import Final

from ...actors.broker import Broker
from ...actors.run import Run
from ...engines.base import Consumer
from ...errors import BrokerError
from ...errors import JobCancelled
from ...errors import LeaseLost
from ...jobs.delivery import Delivery
from ...jobs.delivery import Failed
from ...jobs.delivery import Settlement
from ...jobs.record import JobError
from ...loggers import get_logger
from ..outcome import cut
from ..outcome import text_of
from ..progress import Reporter
from ..stored_outcomes import announce
from ..stored_outcomes import announce_stored
from .engine_backoff import Backoff
from .engine_backoff import log_failure
from .interrupter import Interrupter
from .prefetch import Prefetch

logger = get_logger(__name__)

#: The most settlements in one call of the engine.
_MAX_BATCH: Final = 500

#: After so many failures to store a settlement, though the engine works, the job fails
#: instead.
_MAX_ODDITIES: Final = 3

#: How long a cancelled run has to end by itself, in milliseconds, before it is interrupted.
_CANCEL_PATIENCE: Final = 1_000


class _Request(Enum):
    """Requests to the settler besides settlements."""

    REPORT = "report"
    END = "end"


class Settler:
    """Settles in batches, and fetches with the same call.

    It also reports progress and log lines of runs. What was taken from a run must reach the
    engine before the run's settlement, so one thread sends both.

    :param consumer: the consumer of the worker.
    :param prefetch: the deliveries that the worker holds.
    :param interrupter: interrupts runs that are cancelled or lost.
    :param running: returns the current runs.
    :param may_fetch: returns whether more jobs may be fetched.
    :param on_settled: called with the deliveries that a settlement has returned.
    :param hurrying: set when failed calls are not repeated any more.
    """

    def __init__(
        self,
        broker: Broker,
        consumer: Consumer,
        prefetch: Prefetch,
        interrupter: Interrupter,
        *,
        running: Callable[[], Iterable[Run]],
        may_fetch: Callable[[], bool],
        on_settled: Callable[[list[Delivery]], None],
        hurrying: threading.Event,
    ) -> None:
        #: How many runs have ended and were settled.
        self.finished = 0
        #: Whether a call may have returned jobs that are not counted yet.
        self.is_settling = False
        self._broker = broker
        self._consumer = consumer
        self._prefetch = prefetch
        self._interrupter = interrupter
        self._running = running
        self._may_fetch = may_fetch
        self._on_settled = on_settled
        self._hurrying = hurrying
        self._reporter = Reporter(consumer)
        self._queue: SimpleQueue[Settlement | _Request] = SimpleQueue()
        #: Store a settlement, soon.
        self.put: Callable[[Settlement], None] = self._queue.put
        # By job, how often its settlement could not be stored though the engine works.
        self._odd: Counter[str] = Counter()
        #: The back-off while the engine fails.
        self.backoff = Backoff(hurrying, broker.clock)
        self._thread = threading.Thread(target=self._work, name="taskq-settler", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def report(self) -> None:
        """Report the runs soon, and interrupt those that are cancelled or lost."""
        self._queue.put(_Request.REPORT)

    def end(self) -> None:
        """End when everything before this request is stored."""
        self._queue.put(_Request.END)

    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended. :param timeout: seconds."""
        self._thread.join(timeout)

    def _work(self) -> None:
        backoff = self.backoff
        while True:
            batch, request = self._collect()
            batch = self._reporter.complete(batch)
            while batch:
                batch = self._settle(batch, backoff)
                if self._hurrying.is_set():
                    break
            if request is _Request.END:
                return
            if request is _Request.REPORT:
                self._report()

    def _collect(self) -> tuple[list[Settlement], _Request | None]:
        # During a call of the engine, the next batch accumulates.
        batch: list[Settlement] = []
        one = self._queue.get()
        try:
            while not isinstance(one, _Request):
                batch.append(one)
                if len(batch) == _MAX_BATCH:
                    return batch, None
                one = self._queue.get_nowait()
        except Empty:
            return batch, None
        return batch, one

    def _report(self) -> None:
        runs = {run.delivery.id: run for run in self._running()}
        try:
            stale, cancelled = self._reporter.report(runs.values())
        except Exception as error:
            log_failure("report", error)
            return
        for delivery in stale:
            self._interrupter.interrupt(runs[delivery.id], LeaseLost)
        for delivery in cancelled:
            self._interrupter.interrupt(runs[delivery.id], JobCancelled, _CANCEL_PATIENCE)

    def _settle(self, batch: list[Settlement], backoff: Backoff) -> list[Settlement]:
        """Settle a batch, and fetch with the same call.

        :return: settlements to try again: none is dropped while the worker lives.
        """
        # A released job is not finished. It must not be fetched again at once.
        finished = len([one for one in batch if one.is_run])
        limit = self._prefetch.ask_along(finished, len(batch))
        if not self._may_fetch():
            limit = 0
        announce(self._broker, batch, (BaseException,))
        self.is_settling = True
        try:
            settled = self._consumer.settle_if_held(batch, limit)
        except Exception as error:
            log_failure("settle", error)
            backoff.wait(error)
            return batch if isinstance(error, BrokerError) else self._single_out(batch, error)
        backoff.reset()
        self.finished += finished
        self._prefetch.let_go([settlement.delivery for settlement in batch])
        self._on_settled(settled.deliveries)
        self.is_settling = False
        announce_stored(self._broker, batch, settled, (BaseException,))
        return []

    def _single_out(self, batch: list[Settlement], error: Exception) -> list[Settlement]:
        # The engine works, and one of these settlements has a defect. It must not block the
        # others.
        if len(batch) > 1:
            backoff = Backoff(self._hurrying, self._broker.clock)
            return [left for one in batch for left in self._settle([one], backoff)]
        delivery = batch[0].delivery
        self._odd[delivery.id] += 1
        if self._odd[delivery.id] < _MAX_ODDITIES:
            return batch
        del self._odd[delivery.id]
        return [defective(delivery, error)]


def defective(delivery: Delivery, error: BaseException) -> Failed:
    """The settlement of a job that failed by a defect of this package."""
    text = cut(text_of(error))
    defect = JobError(type=type(error).__name__, message=text, code="internal")
    return Failed(delivery=delivery, error=defect)

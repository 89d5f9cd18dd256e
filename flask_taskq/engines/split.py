"""An engine made of two: the broker's, and one for the records of jobs that have ended.

While a job lives, its record stays with its message, where each transition is one step.
When it has ended, its record moves: it is stored in its new place first, and then removed
from the old one. Readers look in this order too, and so they never miss one on its way.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from ..errors import BrokerError
from ..errors import TaskQError
from ..loggers import get_logger
from ..record import JobRecord
from .base import Consumer
from .base import Engine
from .base import Envelope
from .base import HOUSEKEEPING_LIMIT
from .base import HOUSEKEEPING_SIZE
from .base import Jobs
from .base import StoredJobs
from .base import StoringEngine
from .base import weigh

logger = get_logger(__name__)


class SplitEngine(Engine):
    """Jobs in one engine, and the records of those that have ended in another.

    :param broker: has everything that lives. Sending and running jobs takes no other.
    :param results: where records move to, when somebody calls :meth:`move`.
    """

    def __init__(self, broker: StoringEngine, results: StoringEngine) -> None:
        super().__init__(broker.settings, broker.clock)
        self.broker = broker
        self.results = results
        self.is_shared = broker.is_shared
        self.jobs = _Jobs(broker.jobs, results.jobs)
        self.queues = broker.queues
        self.workers = broker.workers

    def connect(self) -> None:
        self.broker.connect()
        try:
            self.results.connect()
        except BrokerError as error:
            # Not a reason to run no jobs.
            logger.warning(
                "the records of jobs that end stay in the broker, since TASKQ_RESULTS_URL"
                " cannot be used now: %s",
                error,
            )

    def now(self) -> int:
        return self.broker.now()

    def enqueue(self, envelopes: Sequence[Envelope]) -> int:
        return self.broker.enqueue(envelopes)

    def consumer(
        self, queues: Sequence[str], worker: str, *, isolated: bool = False
    ) -> Consumer:
        return self.broker.consumer(queues, worker, isolated=isolated)

    def move(self) -> bool:
        """Move records of jobs that have ended, a bounded number of them.

        :return: whether there were more than one call moves.
        """
        records = self.broker.jobs.list_final()
        adopted = self._adopt(records) if records else []
        if adopted:
            self.broker.jobs.give_away(adopted)
        size = sum(map(weigh, adopted))
        return len(adopted) == HOUSEKEEPING_LIMIT or size >= HOUSEKEEPING_SIZE

    def _adopt(self, records: list[JobRecord]) -> list[JobRecord]:
        """Those of the records that are kept by the other engine now."""
        as_of = self.broker.now()
        try:
            self.results.jobs.adopt(records, as_of)
        except TaskQError:
            raise  # it is out of reach, or full
        except Exception:
            # A value in one of them that it cannot store keeps none of the others here.
            adopted = []
            for record in records:
                with suppress(Exception):
                    self.results.jobs.adopt([record], as_of)
                    adopted.append(record)
            return adopted
        return records

    def close(self) -> None:
        self.broker.close()
        self.results.close()


class _Jobs(Jobs):
    """Records, wherever they are."""

    def __init__(self, broker: StoredJobs, results: StoredJobs) -> None:
        self._broker = broker
        self._results = results

    def get(self, job_id: str) -> JobRecord | None:
        return self._broker.get(job_id) or self._results.get(job_id)

    def wait(self, job_id: str, timeout: int | None) -> JobRecord | None:
        # The broker's engine ends the wait when the record is gone there. It has moved then,
        # and so it is final.
        return self._broker.wait(job_id, timeout) or self._results.get(job_id)

    def cancel(self, job_id: str) -> JobRecord | None:
        return self._broker.cancel(job_id) or self._results.get(job_id)

    def prune(self) -> int:
        # Of a record that has moved, both have something to remove.
        return max(self._broker.prune(), self._results.prune())

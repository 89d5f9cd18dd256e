"""The interface that every storage engine implements.

An engine stores messages and records. It makes the transitions of
:data:`flask_taskq.jobs.transitions.TRANSITIONS`, each in one atomic step. It does not depend on
actors, hooks, threads or Flask. The tests in ``tests/conformance`` specify the behaviour that
every engine must have.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from types import TracebackType
from typing import Final
from typing import NamedTuple
from typing import Self

from ..clock import Clock
from ..config import Settings
from ..jobs.delivery import Delivery
from ..jobs.delivery import Envelope
from ..jobs.delivery import Report
from ..jobs.delivery import Settlement
from ..jobs.record import JobRecord
from ..jobs.record import Lane
from ..jobs.record import Status
from .listing import Count
from .listing import Filter
from .listing import Page
from .listing import QueueState
from .listing import WorkerInfo

#: One housekeeping call handles at most this many jobs, so that no call blocks for long.
HOUSEKEEPING_LIMIT: Final = 500


class Enqueued(NamedTuple):
    """What the engine has stored for an envelope.

    :param id: the id of the job. This is the envelope's id, or the id of the job that holds its
        unique key.
    :param status: the present status of that job.
    :param due_at: the time before which the job must not run, or None if it may run at once.
    :param reason: why no new job was stored. With ``id``, a job with the same id exists. With
        ``unique``, another job holds the unique key. It is None if a new job was stored.
    :param at: the engine's time of the call, in milliseconds since the epoch.
    """

    id: str
    status: Status
    due_at: int | None
    reason: str | None
    at: int

    @property
    def is_new(self) -> bool:
        """Whether this call has stored a new job."""
        return self.reason is None


class Settled(NamedTuple):
    """The result of :meth:`Consumer.settle_if_held`.

    :param outcomes: the status that the job has now, for each settlement. It is None if the
        settlement was refused, because the delivery was no longer held under its token.
    :param deliveries: the jobs that were claimed in the same step.
    :param ready: the ids of the stored follow-ups that may run at once.
    """

    outcomes: list[Status | None]
    deliveries: list[Delivery]
    ready: list[str]


class Reported(NamedTuple):
    """The result of :meth:`Consumer.report_if_held`.

    :param stale: the deliveries that are no longer held under their token. Nothing was stored
        from their reports.
    :param cancelled: the deliveries that are held and whose cancellation was requested.
    """

    stale: list[Delivery]
    cancelled: list[Delivery]


class Consumer(abc.ABC):
    """The interface through which one worker claims, settles and reports jobs. Two threads may
    call its methods at the same time."""

    @abc.abstractmethod
    def fetch(self, limit: int, timeout: int) -> list[Delivery]:
        """Claim jobs that may run. Each queue is read by priority, and then in queue order.

        :param limit: claim at most this many jobs.
        :param timeout: how long to wait for the first job, in milliseconds. With 0 the call
            does not wait.
        :return: the deliveries. The list is empty if the time ran out or :meth:`interrupt` was
            called.
        :raises LeaseLost: the worker is not registered, or its lease has expired.
        """

    @abc.abstractmethod
    def claim(self, job_ids: Sequence[str]) -> list[Delivery]:
        """Claim these jobs if they may run, regardless of their queue and lane.

        A scheduled job may run when it is due. Jobs of a paused queue are claimed as well.

        :return: the deliveries, in the order of the ids, without the jobs that may not run.
        :raises LeaseLost: as for :meth:`fetch`.
        """

    @abc.abstractmethod
    def settle_if_held(self, settlements: Sequence[Settlement], then_fetch: int = 0) -> Settled:
        """Settle deliveries that are still held under their token, and claim more jobs. Both
        happen in one atomic step.

        A settlement with an old token is refused. It changes nothing, and its follow-ups are
        not stored. If a job's cancellation was requested and the job would run again, it is
        cancelled instead, without follow-ups. Progress and log lines are stored first, as in
        :meth:`report_if_held`.

        :param then_fetch: claim at most this many jobs, without waiting. No job is claimed if
            the worker's lease has expired.
        """

    @abc.abstractmethod
    def report_if_held(self, reports: Sequence[Report]) -> Reported:
        """Store the reports of deliveries that are still held under their token, in one atomic
        step.

        Log lines are added to the lines in the record by the rules of
        :func:`~flask_taskq.jobs.record_limits.add_lines`. If there is nothing to store, the
        call only reads.

        :return: the stale deliveries, and the deliveries whose jobs should stop.
        """

    @abc.abstractmethod
    def add_queue(self, queue: str) -> None:
        """Fetch from this queue too, beginning with the next fetch."""

    @abc.abstractmethod
    def interrupt(self) -> None:
        """Make the waiting :meth:`fetch` return at once. If none waits, the next one returns at
        once."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close the resources of the consumer. Its deliveries stay claimed."""


class Jobs(abc.ABC):
    """An engine's records."""

    @abc.abstractmethod
    def get(self, job_id: str) -> JobRecord | None:
        """Return the record of this id, or None if there is none or its retention time is
        over."""

    @abc.abstractmethod
    def wait(self, job_id: str, timeout: int | None) -> JobRecord | None:
        """Wait until the record of this id is final, or until the time is over, and return it.

        :param timeout: the limit in milliseconds, or None for no limit.
        """

    @abc.abstractmethod
    def cancel(self, job_id: str) -> JobRecord | None:
        """Cancel a job. If a worker holds it, only request its cancellation. A job that is over
        is not changed.

        :return: the record afterwards; None if there is none.
        """

    @abc.abstractmethod
    def requeue(self, job_id: str) -> JobRecord | None:
        """Queue a failed or cancelled job again, as if it were new.

        A job with any other status is not changed. Neither is a job whose unique key is held by
        another job.

        :return: the record afterwards; None if there is none.
        """

    @abc.abstractmethod
    def delete(self, job_id: str) -> JobRecord | None:
        """Remove a job with its record, unless a worker holds it.

        :return: the record as it was, or None if there was none. A running job is not removed.
        """

    @abc.abstractmethod
    def page(self, wanted: Filter, cursor: str | None = None, limit: int = 50) -> Page:
        """Return one page of the jobs that match a filter.

        :param cursor: the cursor from the previous page, or None for the first page.
        :raises ValueError: the cursor is not valid.
        """

    @abc.abstractmethod
    def counts(self, wanted: Filter) -> dict[Status, Count]:
        """Count the jobs that match a filter, for each status that it includes."""

    @abc.abstractmethod
    def prune(self) -> int:
        """Remove a bounded number of records whose retention time is over.

        :return: the number of removed records.
        """


class Queues(abc.ABC):
    """An engine's queues."""

    @abc.abstractmethod
    def depths(self) -> dict[str, int]:
        """Count the waiting jobs (queued or scheduled) of each queue that has any."""

    @abc.abstractmethod
    def states(self) -> list[QueueState]:
        """Return the state of each queue that has waiting jobs or is paused, sorted by name."""

    @abc.abstractmethod
    def paused(self) -> set[str]:
        """Return the names of the paused queues."""

    @abc.abstractmethod
    def pause(self, queue: str) -> None:
        """Stop workers from fetching from this queue. Running jobs continue, and jobs can still
        be sent."""

    @abc.abstractmethod
    def resume(self, queue: str) -> None:
        """End a :meth:`pause`."""

    @abc.abstractmethod
    def has_due(self, queues: Sequence[str], lane: Lane) -> bool:
        """Return whether one of these queues has a job in this lane that may run now."""

    @abc.abstractmethod
    def purge(self, queue: str) -> int:
        """Remove every waiting job of this queue, with its record.

        :return: the number of removed jobs.
        """


class Workers(abc.ABC):
    """The workers: processes that hold jobs. Each has a lease, measured with the monotonic
    clock."""

    @abc.abstractmethod
    def register(self, worker: str, info: WorkerInfo | None = None) -> None:
        """Give this worker a lease of ``TASKQ_LEASE`` milliseconds from now.

        :param info: the worker's description, for :meth:`all` and :meth:`list_on`. None keeps
            the known one.
        """

    @abc.abstractmethod
    def renew(self, workers: Sequence[str]) -> list[str]:
        """Extend the leases of these workers to ``TASKQ_LEASE`` milliseconds from now.

        :return: the workers that are no longer registered.
        """

    @abc.abstractmethod
    def count(self) -> int:
        """Count the workers with a valid lease."""

    @abc.abstractmethod
    def all(self) -> dict[str, WorkerInfo]:
        """Return the workers with a valid lease, and their descriptions."""

    @abc.abstractmethod
    def list_on(self, host: str) -> dict[str, WorkerInfo]:
        """Return the registered workers of this host, including those whose lease has
        expired."""

    @abc.abstractmethod
    def hand_back(self, worker: str, started: Sequence[str] | None, cause: str) -> list[str]:
        """Reclaim the jobs of a dead worker, and remove the worker.

        :func:`~flask_taskq.jobs.lifecycle.lose` decides the outcome of each job.

        :param started: the ids of the jobs that were running when the worker died, or None if
            this is not known.
        :param cause: the cause of the death, such as ``killed by signal 9``.
        :return: the ids of the jobs that failed permanently.
        """

    @abc.abstractmethod
    def reap(self) -> list[str]:
        """Reclaim the jobs of all workers whose lease has expired, and remove these workers.

        :return: the removed workers.
        """


class Engine(abc.ABC):
    """A storage. Its constructor does no I/O: the engine connects when it is first used.

    :param settings: the app's configuration, with the URL and the options of the broker.
    """

    jobs: Jobs
    queues: Queues
    workers: Workers

    #: Whether a worker in another process sees the same jobs.
    is_shared: bool = True

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock

    @abc.abstractmethod
    def connect(self) -> None:
        """Connect to the storage, and create what the engine needs there.

        :raises ConnectionFailed: the storage cannot be reached. A later attempt may succeed.
        :raises ConfigurationError: the storage cannot be used as configured. Another attempt
            does not help.
        """

    def now(self) -> int:
        """Return the time to use in records, in milliseconds since the epoch.

        If the storage has a clock, this is the storage's time, based on the last measurement.
        The call does not access the storage, so it may be used in a job's thread.
        """
        return self.clock.now()

    @abc.abstractmethod
    def enqueue(self, envelopes: Sequence[Envelope]) -> list[Enqueued]:
        """Store all of these jobs or none, in one atomic step.

        An envelope is skipped if its id is known, or if another job holds its unique key. A
        call with an unknown outcome can therefore be repeated.

        :return: what is stored now, for each envelope.
        """

    @abc.abstractmethod
    def consumer(
        self, queues: Sequence[str], worker: str, lane: Lane = Lane.ORDINARY
    ) -> Consumer:
        """Create a consumer for a registered worker.

        :param lane: fetch only jobs of this lane.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Close connections and files. The engine connects again when it is used."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

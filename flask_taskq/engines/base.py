"""The contract between the policies above and the storages below.

An engine keeps messages and records, and makes the transitions of
:data:`flask_taskq.jobs.transitions.TRANSITIONS`, each in one atomic step. It knows nothing of
actors, hooks, threads or Flask. ``tests/conformance`` states what every engine owes.
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

#: How many jobs one housekeeping call touches at most, so that none blocks for long.
HOUSEKEEPING_LIMIT: Final = 500


class Enqueued(NamedTuple):
    """What is stored of an envelope.

    :param id: of the job: the envelope's, or that of the job that holds its unique key.
    :param status: of that job, now.
    :param due_at: the moment before which it must not run, None if it may run at once.
    :param reason: why there is no new job: ``id``, one with the id is known; ``unique``,
        another job holds the key; None if there is a new job.
    :param at: what time it was for the engine, in milliseconds since the epoch.
    """

    id: str
    status: Status
    due_at: int | None
    reason: str | None
    at: int

    @property
    def is_new(self) -> bool:
        """Whether this envelope has become a job now."""
        return self.reason is None


class Settled(NamedTuple):
    """What became of a call of :meth:`Consumer.settle_if_held`.

    :param outcomes: for each settlement the status that the job has now, or None if it was
        refused, because the delivery was no longer held under its token.
    :param deliveries: what was fetched in the same step.
    :param ready: ids of other jobs that may run since: follow-ups.
    """

    outcomes: list[Status | None]
    deliveries: list[Delivery]
    ready: list[str]


class Reported(NamedTuple):
    """What became of a call of :meth:`Consumer.report_if_held`.

    :param stale: the deliveries that are no longer held under their token, of whose
        reports nothing was stored.
    :param cancelled: the deliveries that are held, and whose cancelling was asked for.
    """

    stale: list[Delivery]
    cancelled: list[Delivery]


class Consumer(abc.ABC):
    """An engine's reading end, for one worker. Its methods may be called by two threads."""

    @abc.abstractmethod
    def fetch(self, limit: int, timeout: int) -> list[Delivery]:
        """Claim jobs that may run: of each queue by priority, then in order.

        :param limit: claim at most this many.
        :param timeout: how long to wait for the first one, in milliseconds; 0 does not wait.
        :return: the deliveries, empty when the time ran out or :meth:`interrupt` was called.
        :raises LeaseLost: the worker is not registered, or its lease has run out.
        """

    @abc.abstractmethod
    def claim(self, job_ids: Sequence[str]) -> list[Delivery]:
        """Claim these jobs, in whatever queue and lane they are, if they may run.

        A scheduled job may run when its time has come. A paused queue keeps none back here.

        :return: the deliveries, in the order of the ids; those that may not run are left out.
        :raises LeaseLost: as :meth:`fetch`.
        """

    @abc.abstractmethod
    def settle_if_held(self, settlements: Sequence[Settlement], then_fetch: int = 0) -> Settled:
        """Settle what is still held under its token, and claim more, in one atomic step.

        A settlement with an old token changes nothing and is refused, and its follow-ups
        are not stored. A job whose cancelling was asked for and that would run again is
        cancelled instead, without follow-ups. Progress and lines are stored first, as by
        :meth:`report_if_held`.

        :param then_fetch: claim at most this many, without waiting; none are claimed if
            the worker's lease has run out.
        """

    @abc.abstractmethod
    def report_if_held(self, reports: Sequence[Report]) -> Reported:
        """Store what is still held under its token, in one atomic step; say what to stop.

        Lines are added to those that the record has, as
        :func:`~flask_taskq.jobs.record_limits.add_lines` says. Where nothing is to be stored
        it only reads.
        """

    @abc.abstractmethod
    def add_queue(self, queue: str) -> None:
        """Fetch from this queue as well, from the next fetch on."""

    @abc.abstractmethod
    def interrupt(self) -> None:
        """Make a :meth:`fetch` that is waiting, or else the next one, return at once."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close connections and files. Deliveries stay claimed."""


class Jobs(abc.ABC):
    """An engine's records."""

    @abc.abstractmethod
    def get(self, job_id: str) -> JobRecord | None:
        """The record of this id; None if there is none or its retention time is over."""

    @abc.abstractmethod
    def wait(self, job_id: str, timeout: int | None) -> JobRecord | None:
        """The record of this id as soon as it is final, or as it is when the time is over.

        :param timeout: milliseconds, None for no limit.
        """

    @abc.abstractmethod
    def cancel(self, job_id: str) -> JobRecord | None:
        """Cancel a job that no worker holds; ask for it if one does; else change nothing.

        :return: the record afterwards; None if there is none.
        """

    @abc.abstractmethod
    def requeue(self, job_id: str) -> JobRecord | None:
        """Queue a job again that failed or was cancelled, as if it were new.

        Any other job is left as it is, and so is one whose unique key another job holds.

        :return: the record afterwards; None if there is none.
        """

    @abc.abstractmethod
    def delete(self, job_id: str) -> JobRecord | None:
        """Remove a job with its record, unless a worker holds it.

        :return: the record as it was; None if there was none. One that is running is left.
        """

    @abc.abstractmethod
    def page(self, wanted: Filter, cursor: str | None = None, limit: int = 50) -> Page:
        """Some of the jobs that a filter means.

        :param cursor: of the page before; None for the first page.
        :raises ValueError: the cursor is none.
        """

    @abc.abstractmethod
    def counts(self, wanted: Filter) -> dict[Status, Count]:
        """How many jobs a filter means, for each status that it means."""

    @abc.abstractmethod
    def prune(self) -> int:
        """Remove records whose retention time is over, a bounded number of them.

        :return: how many were removed.
        """


class Queues(abc.ABC):
    """An engine's queues."""

    @abc.abstractmethod
    def depths(self) -> dict[str, int]:
        """How many jobs wait (queued or scheduled) in each queue that has any."""

    @abc.abstractmethod
    def states(self) -> list[QueueState]:
        """The state of each queue in which jobs wait, or that is paused, by name."""

    @abc.abstractmethod
    def paused(self) -> set[str]:
        """The queues that are paused."""

    @abc.abstractmethod
    def pause(self, queue: str) -> None:
        """Let no worker fetch from this queue. What runs goes on; sending goes on."""

    @abc.abstractmethod
    def resume(self, queue: str) -> None:
        """End a :meth:`pause`."""

    @abc.abstractmethod
    def has_due(self, queues: Sequence[str], lane: Lane) -> bool:
        """Whether a job of this lane may run now, in one of these queues."""

    @abc.abstractmethod
    def purge(self, queue: str) -> int:
        """Remove every job that waits in this queue, with its record.

        :return: how many were removed.
        """


class Workers(abc.ABC):
    """The processes that hold jobs, each under a lease measured on the monotonic clock."""

    @abc.abstractmethod
    def register(self, worker: str, info: WorkerInfo | None = None) -> None:
        """Give this worker a lease of ``TASKQ_LEASE`` milliseconds from now.

        :param info: who it is, for :meth:`all` and :meth:`list_on`; None if that is known.
        """

    @abc.abstractmethod
    def renew(self, workers: Sequence[str]) -> list[str]:
        """Prolong leases to ``TASKQ_LEASE`` milliseconds from now.

        :return: those of the workers that are not registered any more.
        """

    @abc.abstractmethod
    def count(self) -> int:
        """How many have a lease that holds."""

    @abc.abstractmethod
    def all(self) -> dict[str, WorkerInfo]:
        """Those whose lease holds, with what they have said of themselves."""

    @abc.abstractmethod
    def list_on(self, host: str) -> dict[str, WorkerInfo]:
        """The registered workers of this host, whether or not their lease holds."""

    @abc.abstractmethod
    def hand_back(self, worker: str, started: Sequence[str] | None, cause: str) -> list[str]:
        """Take a dead worker's jobs from it, and forget the worker.

        :func:`~flask_taskq.jobs.lifecycle.lose` says what becomes of each.

        :param started: ids of the jobs that were running when it died; None if that
            is unknown.
        :param cause: how it died, such as ``killed by signal 9``.
        :return: ids of the jobs that were failed for good.
        """

    @abc.abstractmethod
    def reap(self) -> list[str]:
        """Take their jobs from all workers whose lease ran out, and forget them.

        :return: the workers that were reaped.
        """


class Engine(abc.ABC):
    """A storage. Making one does no I/O: it connects when it is first used.

    :param settings: the app's configuration; the broker's URL and options are in it.
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
        """Reach the storage and make ready what it needs.

        :raises ConnectionFailed: it is out of reach; trying again later may help.
        :raises ConfigurationError: it refuses; trying again does not help.
        """

    def now(self) -> int:
        """What time it is for the records, in milliseconds since the epoch.

        It is the storage's own time where it has one, as it was last measured: this asks the
        storage for nothing, and may be called in a job's thread.
        """
        return self.clock.now()

    @abc.abstractmethod
    def enqueue(self, envelopes: Sequence[Envelope]) -> list[Enqueued]:
        """Store jobs, all of them or none, in one atomic step.

        An envelope whose id is known, or whose unique key another job holds, is passed over;
        so a call whose outcome is unknown can be repeated.

        :return: for each envelope what is stored now.
        """

    @abc.abstractmethod
    def consumer(
        self, queues: Sequence[str], worker: str, lane: Lane = Lane.ORDINARY
    ) -> Consumer:
        """A reading end for a registered worker.

        :param lane: fetch only jobs that stand in this one.
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

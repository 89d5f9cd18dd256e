"""The contract between the policies above and the storages below.

An engine keeps messages and records, and makes the transitions of
:data:`flask_taskq.record.TRANSITIONS`, each in one atomic step. It knows nothing of actors,
hooks, threads or Flask. ``tests/conformance`` states what every engine owes.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from types import TracebackType
from typing import Any
from typing import Final
from typing import NamedTuple
from typing import Self

import msgspec

from ..clock import Clock
from ..clock import END_OF_TIME
from ..config import Settings
from ..record import JobError
from ..record import JobRecord
from ..record import LogLine
from ..record import Progress

#: How many jobs one housekeeping call touches at most, so that none blocks for long.
HOUSEKEEPING_LIMIT: Final = 500


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """An encoded message on its way into an engine, with what is needed to store it.

    Whoever sends it may have a wrong clock: what time it is says the engine.

    :param delay: how many milliseconds it must wait, from when it is stored; None for none.
    :param due_at: a moment before which it must not run, in milliseconds since the epoch by
        the engine's clock; None for none. Only one of the two is given.
    :param created_at: when it was sent, of one that is older than this call; by default, when
        it is stored.
    """

    id: str
    queue: str
    actor: str
    priority: int
    message: bytes
    delay: int | None = None
    due_at: int | None = None
    created_at: int | None = None
    max_attempts: int | None = None

    def waits_until(self, now: int) -> int | None:
        """The moment before which it must not run; None if it may run at once.

        :param now: the engine's time, in milliseconds since the epoch.
        """
        due_at = self.due_at if self.delay is None else min(now + self.delay, END_OF_TIME)
        return None if due_at is None or due_at <= now else due_at


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One handing-over of a job to a worker.

    ``worker`` and ``claim`` are the fencing token: an engine takes no settlement of a
    delivery whose token is no longer the record's.

    :param attempt: the number that this run has if it is charged, from 1.
    :param claim: how often the job has been handed over, this time included.
    :param created_at: when the job was sent, milliseconds since the epoch by the engine's
        clock.
    :param released_since: since when the job has been put off without having begun to run,
        or None if this worker is the first to see it.
    :param releases: how often it has been put off since then.
    :param handle: whatever the engine needs to find the job again.
    """

    id: str
    queue: str
    actor: str
    priority: int
    message: bytes
    worker: str
    attempt: int
    claim: int
    created_at: int
    crashes: int = 0
    released_since: int | None = None
    releases: int = 0
    handle: Any = None


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """How a delivery ended. One of the classes below.

    All times in it are by the engine's clock: :meth:`Engine.now`.

    :param started_at: when the run began, milliseconds since the epoch; None if it did not.
    :param follow_ups: new jobs, which are stored in the same step, if this outcome is.
    :param progress: how far the run has come, if that is not stored yet.
    :param logs: lines of the run that are not stored yet.
    """

    delivery: Delivery
    started_at: int | None = None
    follow_ups: tuple[Envelope, ...] = ()
    progress: Progress | None = None
    logs: tuple[LogLine, ...] = ()


class Done(Settlement, frozen=True, kw_only=True):
    """The actor returned. :param result: its encoded return value."""

    result: bytes


class Retry(Settlement, frozen=True, kw_only=True):
    """The run failed and is charged; another one follows at ``at`` (ms since the epoch)."""

    error: JobError
    at: int


class Failed(Settlement, frozen=True, kw_only=True):
    """The run failed and is charged, and none follows."""

    error: JobError


class Cancelled(Settlement, frozen=True, kw_only=True):
    """The run gave the job up and is charged; none follows, and it is no failure.

    :param error: why.
    """

    error: JobError


class Expired(Settlement, frozen=True, kw_only=True):
    """The job was too old to run: it is not charged, and it ends.

    :param error: how so.
    """

    error: JobError


class GivenBack(Settlement, frozen=True, kw_only=True):
    """The job goes back uncharged.

    :param at: put it off until then (milliseconds since the epoch); None queues it again
        in the place it had. With a ``started_at`` the run itself asked for it, and that ends
        the count of how often the job was put off without having begun to run.
    :param reason: a word for programs that the record shows while the job waits.
    """

    at: int | None = None
    reason: str | None = None


class Settled(NamedTuple):
    """What became of a call of :meth:`Consumer.settle_if_held`.

    :param stale: the deliveries whose settlement was refused, because they were no
        longer held under their token.
    :param deliveries: what was fetched in the same step.
    """

    stale: list[Delivery]
    deliveries: list[Delivery]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a run that goes on has to tell.

    :param progress: how far it has come; None if that is stored already.
    :param logs: lines that are not stored yet.
    """

    delivery: Delivery
    progress: Progress | None = None
    logs: tuple[LogLine, ...] = ()


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
    def settle_if_held(self, settlements: Sequence[Settlement], then_fetch: int = 0) -> Settled:
        """Settle what is still held under its token, and claim more, in one atomic step.

        A settlement with an old token changes nothing and is reported, and its follow-ups
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
        :func:`~flask_taskq.engines.keeping.add_lines` says. Where nothing is to be stored
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
        """Let go of what the consumer holds open. Deliveries stay claimed."""


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
    def purge(self, queue: str) -> int:
        """Remove every job that waits in this queue, with its record.

        :return: how many were removed.
        """


class Holder(msgspec.Struct, frozen=True):
    """The processes that keep a worker's lease: when all are dead, nobody holds its jobs.

    :param host: the machine since it was started, and the namespace that ids of processes
        are of. Where it is the same, so are the processes that the ids mean.
    :param processes: id and start time of each, as :mod:`flask_taskq.worker.proof` reads them.
    """

    host: str
    processes: tuple[tuple[int, int], ...]


class Workers(abc.ABC):
    """The processes that hold jobs, each under a lease measured on the monotonic clock."""

    @abc.abstractmethod
    def register(self, worker: str, holder: Holder | None = None) -> None:
        """Give this worker a lease of ``TASKQ_LEASE`` milliseconds from now.

        :param holder: the processes that keep the lease, for :meth:`list_holders`.
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
    def list_holders(self, host: str) -> dict[str, Holder]:
        """The processes that keep the leases of this host's registered workers.

        Workers of which none were given are left out.
        """

    @abc.abstractmethod
    def hand_back(self, worker: str, started: Sequence[str] | None, cause: str) -> list[str]:
        """Take a dead worker's jobs from it, and forget the worker.

        What becomes of them says :func:`~flask_taskq.engines.judgement.judge`.

        :param started: ids of the jobs that were running when it died; None if nobody
            knows which of them were.
        :param cause: how it died, such as ``killed by signal 9``.
        :return: ids of the jobs that were failed for good.
        """

    @abc.abstractmethod
    def reap(self) -> list[str]:
        """Take their jobs from all workers whose lease ran out, and forget them.

        :return: the workers that were reaped.
        """

    @abc.abstractmethod
    def has_isolated(self, queues: Sequence[str]) -> bool:
        """Whether a job of these queues is due that may only run alone in a process."""


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
    def enqueue(self, envelopes: Sequence[Envelope]) -> int:
        """Store jobs, all of them or none, in one atomic step.

        An envelope whose id exists already is passed over, so that a call whose outcome
        is unknown can be repeated.

        :return: what time it was for the engine, in milliseconds since the epoch.
        """

    @abc.abstractmethod
    def consumer(
        self, queues: Sequence[str], worker: str, *, isolated: bool = False
    ) -> Consumer:
        """A reading end for a registered worker.

        :param isolated: fetch only the jobs that must run alone; otherwise only the rest.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of connections and files. The engine connects again when it is used."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

"""Lists and counts of jobs, queues and workers, and the order of the lists.

The time for a list must not grow with the number of jobs. A page or a count therefore examines
a bounded number of jobs, and states whether there are more.
"""

from __future__ import annotations

import binascii
import heapq
import operator
from base64 import urlsafe_b64decode
from base64 import urlsafe_b64encode
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any
from typing import Final
from typing import NamedTuple

import msgspec

from ..jobs.record import FINAL
from ..jobs.record import JobRecord
from ..jobs.record import Lane
from ..jobs.record import Status

#: The maximum number of jobs that a page or a count examines.
WINDOW: Final = 10_000

#: The number of jobs that are read at once for a page.
READ_AT_ONCE: Final = 500


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """A filter for jobs.

    :param statuses: match any of these statuses. If empty, match all.
    :param queue: match only jobs of this queue. None matches all.
    :param actor: match only jobs of this actor. None matches all.
    """

    statuses: tuple[Status, ...] = ()
    queue: str | None = None
    actor: str | None = None

    def has(self, status: Status) -> bool:
        """Return whether jobs with this status match."""
        return not self.statuses or status in self.statuses

    def fits(self, record: JobRecord) -> bool:
        """Return whether this job matches."""
        return (
            self.has(record.status)
            and self.queue in (None, record.queue)
            and self.actor in (None, record.actor)
        )


class Page(NamedTuple):
    """One page of the jobs that match a filter.

    :param records: running jobs first, then queued jobs in queue order, then scheduled jobs by
        due time, then jobs that are over, the newest first.
    :param cursor: the cursor for the next page, or None if this is the last page. A page
        examines at most :data:`WINDOW` jobs. It may therefore have fewer jobs than requested,
        or none, and still have a next page.
    """

    records: list[JobRecord]
    cursor: str | None


class Count(NamedTuple):
    """A number of jobs.

    :param number: how many of the examined jobs match.
    :param is_exact: whether all jobs were examined. If not, there are at least this many.
    """

    number: int
    is_exact: bool


class QueueState(NamedTuple):
    """The state of a queue.

    :param queued: the number of jobs that may run now.
    :param scheduled: the number of jobs that are not due yet.
    :param oldest: the time when the next job to run was sent or last changed, in milliseconds
        since the epoch. None if no job is queued.
    :param is_paused: whether workers do not fetch from this queue.
    """

    queue: str
    queued: int
    scheduled: int
    oldest: int | None
    is_paused: bool


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The description of a worker, as registered by the worker itself.

    :param host: identifies the machine, its present boot, and its process id namespace. Where
        two workers have the same value, their process ids refer to the same processes. Empty if
        unknown.
    :param processes: the id and the start time of each process that keeps the lease, as
        :mod:`flask_taskq.worker.liveness` reads them. If all are dead, no process holds the
        worker's jobs.
    :param hostname: the name of the machine, for display.
    :param pid: the process id, for display.
    :param queues: the names of the queues that the worker serves.
    :param version: the version of flask_taskq that the worker runs.
    :param started_at: the start time in milliseconds since the epoch, by the engine's clock.
    """

    host: str = ""
    processes: tuple[tuple[int, int], ...] = ()
    hostname: str = ""
    pid: int = 0
    queues: tuple[str, ...] = ()
    version: str = ""
    started_at: int = 0


#: The sort key of a job in its section. Its last element is the job's id.
Key = tuple[Any, ...]

#: The key and the record of a job. The record is None if it is damaged.
Entry = tuple[Key, JobRecord | None]

#: Reads up to a given number of jobs of a section that come after a key. A key of None means
#: the beginning of the section.
Read = Callable[[Key | None, int], Sequence[Entry]]


class Section(NamedTuple):
    """A part of the list of all jobs. It can be read in order.

    :param name: the unique name of the section.
    :param read: reads the jobs of the section.
    """

    name: str
    read: Read


def name_queued(queue: str, lane: Lane) -> str:
    """Return the name of the section for the queued jobs of a queue and a lane."""
    return f"queued:{queue}:{lane}"


def find_page(
    sections: Iterable[Section], wanted: Filter, cursor: str | None, limit: int
) -> Page:
    """Return the page that follows a cursor.

    A cursor identifies a position by its sort key, not by a number of jobs to skip. If jobs
    move between two calls, no other job is shown twice or left out.

    :param sections: the sections for this filter, in the order in which they are listed.
    :raises ValueError: the cursor is not valid.
    """
    from_section, after = (None, None) if cursor is None else read_cursor(cursor)
    records: list[JobRecord] = []
    looked = 0
    passes_over = wanted.queue is not None or wanted.actor is not None
    at_once = READ_AT_ONCE if passes_over else min(limit, READ_AT_ONCE)
    for name, read in sections:
        if from_section is not None and name != from_section:
            if not _is_behind(name, from_section):
                continue
            after = None  # that section does not exist any more
        from_section = None
        while True:
            entries = read(after, at_once)
            for key, record in entries:
                after = key
                if record is not None and wanted.fits(record):
                    records.append(record)
                    if len(records) == limit:
                        return Page(records, write_cursor(name, after))
            looked += len(entries)
            if len(entries) < at_once:
                break
            if looked >= WINDOW and after is not None:
                return Page(records, write_cursor(name, after))
        after = None
    return Page(records, None)


def merge_newest(lists: Iterable[Sequence[Entry]], limit: int) -> list[Entry]:
    """Merge lists that are sorted in descending order, and return the first entries."""
    merged = heapq.merge(*lists, key=operator.itemgetter(0), reverse=True)
    return [entry for entry, _ in zip(merged, range(limit), strict=False)]


_ORDER: Final = ("running", "queued", "scheduled", "final")


def _is_behind(name: str, other: str) -> bool:
    def rank(section: str) -> tuple[int, str]:
        return (_ORDER.index(section.partition(":")[0]), section)

    return rank(name) > rank(other)


def write_cursor(section: str, key: Key) -> str:
    """Encode a position in the list as an opaque string."""
    return urlsafe_b64encode(msgspec.json.encode((section, key))).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[str, Key]:
    """Decode a cursor.

    :raises ValueError: it was not made by :func:`write_cursor`.
    """
    try:
        data = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        section, key = msgspec.json.decode(data, type=tuple[str, tuple[int | str, ...]])
    except (ValueError, msgspec.DecodeError, binascii.Error):
        raise ValueError(f"{cursor!r} is no cursor of a page of jobs") from None
    if section.partition(":")[0] not in _ORDER:
        raise ValueError(f"{cursor!r} is no cursor of a page of jobs")
    return section, key


def wanted_final(wanted: Filter) -> list[Status]:
    """Return the final statuses that match the filter."""
    return [status for status in Status if status in FINAL and wanted.has(status)]

"""What an engine shows of many jobs, queues and workers at once, and in which order.

No list may take longer the more jobs there are. So a page and a count look at a bounded
number of jobs, and say when there are more.
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

#: How many jobs a page or a count looks at, at most.
WINDOW: Final = 10_000

#: How many jobs are read at once for a page.
READ_AT_ONCE: Final = 500


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs are meant.

    :param statuses: any of these; empty for all.
    :param queue: only of this one; None for all.
    :param actor: likewise.
    """

    statuses: tuple[Status, ...] = ()
    queue: str | None = None
    actor: str | None = None

    def has(self, status: Status) -> bool:
        """Whether jobs with this status are meant."""
        return not self.statuses or status in self.statuses

    def fits(self, record: JobRecord) -> bool:
        """Whether this job is meant."""
        return (
            self.has(record.status)
            and self.queue in (None, record.queue)
            and self.actor in (None, record.actor)
        )


class Page(NamedTuple):
    """Some of the jobs that a filter means.

    :param records: running jobs, then queued ones in the order of their turns, then scheduled
        ones by time, then those that are over, the newest first.
    :param cursor: how to ask for the next page; None if this was the last one. A page may
        have fewer jobs than were asked for, or none, and have a next one: it looks at
        :data:`WINDOW` jobs at most.
    """

    records: list[JobRecord]
    cursor: str | None


class Count(NamedTuple):
    """How many jobs there are.

    :param number: of those that were looked at.
    :param is_exact: whether these were all. Otherwise there are at least so many.
    """

    number: int
    is_exact: bool


class QueueState(NamedTuple):
    """What waits in a queue.

    :param queued: jobs that may run now.
    :param scheduled: jobs whose time has not come.
    :param oldest: since when the job has been waiting whose turn is next, in milliseconds
        since the epoch: when it was sent, or changed last. None if none is queued.
    :param is_paused: whether no worker takes jobs from it.
    """

    queue: str
    queued: int
    scheduled: int
    oldest: int | None
    is_paused: bool


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A process that holds jobs, as it has introduced itself.

    :param host: the machine since it was started, and the namespace that ids of processes
        are of. Where it is the same, so are the processes that the ids mean. Empty if nobody
        knows.
    :param processes: id and start time of each process that keeps the lease, as
        :mod:`flask_taskq.worker.proof` reads them. When all are dead, no process holds its
            jobs.
    :param hostname: for people.
    :param pid: of the process, for people.
    :param queues: names of those that it serves.
    :param version: of the package that it runs.
    :param started_at: milliseconds since the epoch by the engine's clock.
    """

    host: str = ""
    processes: tuple[tuple[int, int], ...] = ()
    hostname: str = ""
    pid: int = 0
    queues: tuple[str, ...] = ()
    version: str = ""
    started_at: int = 0


#: Where a job stands in its section: what that is sorted by. The last word is the job's id.
Key = tuple[Any, ...]

#: Of each job its key and its record, None for a record that is damaged.
Entry = tuple[Key, JobRecord | None]

#: Reads so many jobs of a section that stand behind this key, None for its beginning.
Read = Callable[[Key | None, int], Sequence[Entry]]


class Section(NamedTuple):
    """A part of the list of all jobs that can be read in order.

    :param name: no other section has the same.
    :param read: its jobs.
    """

    name: str
    read: Read


def name_queued(queue: str, lane: Lane) -> str:
    """The name of the section of the jobs that are queued in a lane."""
    return f"queued:{queue}:{lane}"


def find_page(
    sections: Iterable[Section], wanted: Filter, cursor: str | None, limit: int
) -> Page:
    """The page behind a cursor.

    A cursor names a place and not a number of jobs to pass over: jobs that move meanwhile
    let no other one be shown twice or left out.

    :param sections: in the order in which they are listed, as this filter wants them.
    :raises ValueError: the cursor is none.
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
            after = None  # that section is gone
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
    """The first of several lists, each of which is sorted backwards."""
    merged = heapq.merge(*lists, key=operator.itemgetter(0), reverse=True)
    return [entry for entry, _ in zip(merged, range(limit), strict=False)]


_ORDER: Final = ("running", "queued", "scheduled", "final")


def _is_behind(name: str, other: str) -> bool:
    def rank(section: str) -> tuple[int, str]:
        return (_ORDER.index(section.partition(":")[0]), section)

    return rank(name) > rank(other)


def write_cursor(section: str, key: Key) -> str:
    """Words for a place in the list, for who sees no meaning in them."""
    return urlsafe_b64encode(msgspec.json.encode((section, key))).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[str, Key]:
    """:raises ValueError: it was not made by :func:`write_cursor`."""
    try:
        data = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        section, key = msgspec.json.decode(data, type=tuple[str, tuple[int | str, ...]])
    except (ValueError, msgspec.DecodeError, binascii.Error):
        raise ValueError(f"{cursor!r} is no cursor of a page of jobs") from None
    if section.partition(":")[0] not in _ORDER:
        raise ValueError(f"{cursor!r} is no cursor of a page of jobs")
    return section, key


def wanted_final(wanted: Filter) -> list[Status]:
    """The statuses of jobs that are over, as far as they are meant."""
    return [status for status in Status if status in FINAL and wanted.has(status)]

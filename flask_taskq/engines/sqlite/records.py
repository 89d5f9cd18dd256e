"""The job records of the SQLite engine."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from functools import partial
from typing import Any
from typing import Final

from ...jobs import lifecycle
from ...jobs.lifecycle import Change
from ...jobs.record import FINAL
from ...jobs.record import JobRecord
from ...jobs.record import Lane
from ...jobs.record import Status
from .. import listing
from ..base import HOUSEKEEPING_LIMIT
from ..base import Jobs
from ..listing import Count
from ..listing import Entry
from ..listing import Filter
from ..listing import find_page
from ..listing import Key
from ..listing import merge_newest
from ..listing import name_queued
from ..listing import Page
from ..listing import Section
from ..listing import wanted_final
from ..sql.rows import Row
from ..sql.rows import to_entries
from ..sql.rows import to_record
from .store import Store
from .store import take_places
from .transitions import change

#: How often a caller that waits for a job checks for changes, in milliseconds: the first
#: interval, and the longest one.
FIRST_LOOK: Final = 2.0
LAST_LOOK: Final = 50.0

#: The number of unused pages above which pages are returned to the filesystem, and how many are
#: returned at a time.
SPARE_PAGES: Final = 2_000
VACUUMED_AT_ONCE: Final = 200

#: Sort keys before and after all jobs of a list.
_LOWEST: Final = -(2**62)
_HIGHEST: Final = 2**62


class SQLiteJobs(Jobs):
    """Job records. Reading them takes no lock."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, job_id: str) -> JobRecord | None:
        return self._store.read(lambda connection: self._get(connection, job_id))

    def wait(self, job_id: str, timeout: int | None) -> JobRecord | None:
        clock = self._store.clock
        until = None if timeout is None else clock.monotonic() + timeout
        interval = FIRST_LOOK
        never = threading.Condition()  # only its timeout ends the wait
        while True:
            version = self._store.version()
            record = self.get(job_id)
            if record is None or record.status.is_final:
                return record
            while True:
                left = interval if until is None else until - clock.monotonic()
                if left <= 0:
                    return record
                with never:
                    clock.wait(never, min(left, interval))
                interval = min(interval * 1.5, LAST_LOOK)
                if self._store.version() != version:
                    break

    # --- Changes ---

    def cancel(self, job_id: str) -> JobRecord | None:
        def cancel(connection: sqlite3.Connection, seq: int, status: Status, now: int) -> None:
            wanted = lifecycle.cancel(status)
            if wanted is not None:
                self._change(connection, seq, wanted, now)
            elif status is Status.RUNNING:
                connection.execute(self._store.statements.ask_to_cancel, (now, seq))

        return self._do(job_id, cancel)

    def requeue(self, job_id: str) -> JobRecord | None:
        statements = self._store.statements

        def requeue(connection: sqlite3.Connection, seq: int, status: Status, now: int) -> None:
            if lifecycle.requeue(status) is None:
                return
            place = take_places(connection, statements, 1)
            try:
                connection.execute(statements.requeue, (place, now, seq))
            except sqlite3.IntegrityError:
                return  # another job holds its key
            connection.execute(statements.forget_outcome, (seq,))

        record = self._do(job_id, requeue)
        if record is not None and record.status is Status.QUEUED:
            self._store.wakeup.notify()
        return record

    def delete(self, job_id: str) -> JobRecord | None:
        statements = self._store.statements
        found: list[JobRecord | None] = []

        def delete(connection: sqlite3.Connection, seq: int, status: Status, now: int) -> None:
            found.append(self._get(connection, job_id))
            if status is not Status.RUNNING:
                take_places(connection, statements, 0)
                for statement in statements.delete:
                    connection.execute(statement, (seq,))

        self._do(job_id, delete)
        return found[-1] if found else None

    def _change(
        self, connection: sqlite3.Connection, seq: int, wanted: Change, now: int
    ) -> None:
        store = self._store
        row = wanted.transition
        change(connection, store.changes, wanted, row, seq, now, store.retention)

    def _do(
        self, job_id: str, act: Callable[[sqlite3.Connection, int, Status, int], None]
    ) -> JobRecord | None:
        """Call ``act`` for an existing job, in one transaction.

        :return: the record afterwards, or None if there is no such job.
        """

        def do(connection: sqlite3.Connection) -> JobRecord | None:
            now = self._store.clock.now()
            find = self._store.statements.find
            row = connection.execute(find, (job_id, now)).fetchone()
            if row is None:
                return None
            record = self._get(connection, job_id)  # raises an error if it is damaged
            if record is not None:
                act(connection, row[0], record.status, now)
            return self._get(connection, job_id)

        return self._store.write(do)

    def prune(self) -> int:
        statements = self._store.statements
        now = self._store.clock.now()

        def prune(connection: sqlite3.Connection) -> int:
            over: list[Row] = []
            for status in FINAL:
                values = (status.value, HOUSEKEEPING_LIMIT - len(over), now)
                over += connection.execute(statements.expired, values).fetchall()
            if over:
                take_places(connection, statements, 0)
                _, outcome, job = statements.delete
                connection.executemany(outcome, over)
                connection.executemany(job, over)
            if connection.execute("PRAGMA freelist_count").fetchone()[0] > SPARE_PAGES:
                # SQLite returns one page for each row that is fetched.
                connection.execute(f"PRAGMA incremental_vacuum({VACUUMED_AT_ONCE})").fetchall()
            return len(over)

        return self._store.write(prune)

    # --- Lists ---

    def page(self, wanted: Filter, cursor: str | None = None, limit: int = 50) -> Page:
        def find(connection: sqlite3.Connection) -> Page:
            return find_page(self._sections(connection, wanted), wanted, cursor, limit)

        return self._store.read(find)

    def _sections(self, connection: sqlite3.Connection, wanted: Filter) -> Iterator[Section]:
        statements = self._store.statements
        if wanted.has(Status.RUNNING):
            read = partial(_read, connection, statements.running_page, (), (_LOWEST,))
            yield Section("running", read)
        if wanted.has(Status.QUEUED):
            queues = [queue for (queue,) in connection.execute(statements.queues).fetchall()]
            for queue in (
                queues if wanted.queue is None else {wanted.queue}.intersection(queues)
            ):
                for lane in sorted(Lane):
                    of, start = (queue, lane.value), (_LOWEST, _LOWEST)
                    read = partial(_read, connection, statements.queued_page, of, start)
                    yield Section(name_queued(queue, lane), read)
        if wanted.has(Status.SCHEDULED):
            start = (_LOWEST, _LOWEST)
            read = partial(_read, connection, statements.scheduled_page, (), start)
            yield Section("scheduled", read)
        if final := wanted_final(wanted):
            yield Section("final", partial(self._read_newest, connection, final))

    def _read_newest(
        self,
        connection: sqlite3.Connection,
        statuses: Sequence[Status],
        after: Key | None,
        limit: int,
    ) -> list[Entry]:
        start = (_HIGHEST, _HIGHEST) if after is None else after[:-1]
        now = self._store.clock.now()
        lists = []
        for status in statuses:
            values = (status.value, *start, now, limit)
            rows = connection.execute(self._store.statements.ended_page, values).fetchall()
            lists.append(to_entries(rows, _key))
        return merge_newest(lists, limit)

    def counts(self, wanted: Filter) -> dict[Status, Count]:
        def count(connection: sqlite3.Connection) -> dict[Status, Count]:
            counts = {}
            for status in Status:
                if wanted.has(status):
                    statement, values = self._counting(wanted, status)
                    number, looked_at = connection.execute(statement, values).fetchone()
                    is_exact = looked_at <= listing.WINDOW
                    counts[status] = Count(min(number, listing.WINDOW), is_exact)
            return counts

        return self._store.read(count)

    def _counting(self, wanted: Filter, status: Status) -> tuple[str, Row]:
        statements = self._store.statements
        values: Row = (status.value, listing.WINDOW + 1)
        if status in FINAL:
            values = (self._store.clock.now(), *values)
        if wanted.queue is None and wanted.actor is None:
            return (
                statements.count_ended if status in FINAL else statements.count_live
            ), values
        values = (wanted.queue, wanted.actor, *values)
        is_over = status in FINAL
        return (
            statements.count_ended_filtered if is_over else statements.count_live_filtered
        ), values

    def _get(self, connection: sqlite3.Connection, job_id: str) -> JobRecord | None:
        values = (job_id, self._store.clock.now())
        row = connection.execute(self._store.statements.get, values).fetchone()
        return None if row is None else to_record(row)


def _read(
    connection: sqlite3.Connection,
    statement: str,
    of: tuple[Any, ...],
    start: tuple[int, ...],
    after: Key | None,
    limit: int,
) -> list[Entry]:
    place = start if after is None else after[:-1]
    rows = connection.execute(statement, (*of, *place, limit)).fetchall()
    return to_entries(rows, _key)


def _key(sorted_by: Row, job_id: str) -> Key:
    return (*sorted_by, job_id)

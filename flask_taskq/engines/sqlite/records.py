"""What the engine knows of jobs and of queues."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from typing import Any
from typing import Final
from typing import TypeVar

import msgspec

from ...jobs.keeping import damaged
from ...jobs.keeping import DAMAGED_ERROR
from ...jobs.record import Attempt
from ...jobs.record import JobError
from ...jobs.record import JobRecord
from ...jobs.record import LogLine
from ...jobs.record import Progress
from ...jobs.record import Status
from ..base import HOUSEKEEPING_LIMIT
from ..base import Jobs
from ..base import Queues
from .store import Store
from .store import take_places

#: How often somebody who waits for a job looks whether anything has changed, in
#: milliseconds: at first, and in the end.
FIRST_LOOK: Final = 2.0
LAST_LOOK: Final = 50.0

#: Jobs that are removed from a queue in one transaction, so that senders get their turn.
PURGED_AT_ONCE: Final = 2_000

#: Unused pages that are worth giving back to the filesystem, and how many at a time.
SPARE_PAGES: Final = 2_000
VACUUMED_AT_ONCE: Final = 200

_error_decoder = msgspec.json.Decoder(JobError)
_attempts_decoder = msgspec.json.Decoder(tuple[Attempt, ...])
_progress_decoder = msgspec.json.Decoder(Progress)
_logs_decoder = msgspec.json.Decoder(tuple[LogLine, ...])

T = TypeVar("T")
D = TypeVar("D")


class SQLiteJobs(Jobs):
    """Records, read without a lock."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, job_id: str) -> JobRecord | None:
        return self._store.read(lambda connection: self._find(connection, job_id))

    def wait(self, job_id: str, timeout: int | None) -> JobRecord | None:
        clock = self._store.clock
        until = None if timeout is None else clock.monotonic() + timeout
        interval = FIRST_LOOK
        nobody = threading.Condition()
        while True:
            version = self._store.version()
            record = self.get(job_id)
            if record is None or record.status.is_final:
                return record
            while True:
                left = interval if until is None else until - clock.monotonic()
                if left <= 0:
                    return record
                with nobody:
                    clock.wait(nobody, min(left, interval))
                interval = min(interval * 1.5, LAST_LOOK)
                if self._store.version() != version:
                    break

    def cancel(self, job_id: str) -> JobRecord | None:
        store = self._store

        def cancel(connection: sqlite3.Connection) -> JobRecord | None:
            record = self._find(connection, job_id)
            if record is None or record.status.is_final:
                return record
            now = store.clock.now()
            if record.status is not Status.RUNNING:
                values = (now, now, store.expires_at(now), job_id)
                connection.execute(store.statements.cancel, values)
            elif not record.cancel_requested:
                connection.execute(store.statements.ask_to_cancel, (now, job_id))
            return self._find(connection, job_id)

        return store.write(cancel)

    def prune(self) -> int:
        statements = self._store.statements
        now = self._store.clock.now()

        def prune(connection: sqlite3.Connection) -> int:
            take_places(connection, statements, 0)
            values = (now, HOUSEKEEPING_LIMIT)
            removed = connection.execute(statements.prune, values).rowcount
            if connection.execute("PRAGMA freelist_count").fetchone()[0] > SPARE_PAGES:
                # Each row fetched is a page given back.
                connection.execute(f"PRAGMA incremental_vacuum({VACUUMED_AT_ONCE})").fetchall()
            return removed

        return self._store.write(prune)

    def _find(self, connection: sqlite3.Connection, job_id: str) -> JobRecord | None:
        values = (job_id, self._store.clock.now())
        row = connection.execute(self._store.statements.get, values).fetchone()
        return None if row is None else to_record(row)


class SQLiteQueues(Queues):
    """What waits."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def depths(self) -> dict[str, int]:
        def count(connection: sqlite3.Connection) -> dict[str, int]:
            depths: Counter[str] = Counter()
            for statement in self._store.statements.depths:
                depths.update(dict(connection.execute(statement).fetchall()))
            return dict(depths)

        return self._store.read(count)

    def purge(self, queue: str) -> int:
        statements = self._store.statements
        # What is sent meanwhile stays, so that this comes to an end.
        newest = self._store.read(lambda on: on.execute(statements.newest).fetchone()[0] or 0)

        def purge(connection: sqlite3.Connection) -> int:
            take_places(connection, statements, 0)
            values = (queue, newest, PURGED_AT_ONCE)
            return sum(
                connection.execute(statement, values).rowcount for statement in statements.purge
            )

        removed = 0
        while count := self._store.write(purge):
            removed += count
        return removed


def to_record(row: tuple[Any, ...]) -> JobRecord:
    """The record in a row of the columns ``statements.RECORD``.

    :raises DecodeError: it has values that no record has.
    """
    (
        job_id,
        queue,
        actor,
        priority,
        status,
        message,
        created_at,
        updated_at,
        due_at,
        started_at,
        finished_at,
        expires_at,
        attempt,
        max_attempts,
        crashes,
        suspects,
        cancel_requested,
        status_reason,
        result,
        error,
        attempts,
        progress,
        logs,
        worker,
        version,
    ) = row
    # SQLite stores a value of any type in a column, so that they are looked at here.
    fields = dict(
        id=job_id,
        queue=queue,
        actor=actor,
        priority=priority,
        status=status,
        message=message,
        created_at=created_at,
        updated_at=updated_at,
        scheduled_for=due_at,
        started_at=started_at,
        finished_at=finished_at,
        expires_at=expires_at,
        attempt=attempt,
        max_attempts=max_attempts,
        crashes=crashes,
        suspects=suspects,
        cancel_requested=bool(cancel_requested),
        status_reason=status_reason,
        result=result,
        error=None if error is None else _decode(_error_decoder, error, DAMAGED_ERROR),
        attempts=to_attempts(attempts),
        progress=None if progress is None else _decode(_progress_decoder, progress, None),
        logs=to_logs(logs),
        worker=worker,
        version=version,
    )
    try:
        return msgspec.convert(fields, JobRecord)
    except msgspec.ValidationError as found:
        raise damaged(job_id, found) from None


def to_attempts(data: bytes | None) -> tuple[Attempt, ...]:
    """The attempts in the column of this name."""
    return () if data is None else _decode(_attempts_decoder, data, ())


def to_logs(data: bytes | None) -> tuple[LogLine, ...]:
    """The lines in the column of this name."""
    return () if data is None else _decode(_logs_decoder, data, ())


def _decode(decoder: msgspec.json.Decoder[T], data: bytes, otherwise: D) -> T | D:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError):
        return otherwise  # what is past must not keep an outcome from being stored

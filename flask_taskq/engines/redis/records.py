"""The job records of the Redis engine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Final

import msgspec

from ...errors import BrokerConnectionError
from ...errors import BrokerError
from ...jobs import lifecycle
from ...jobs.lifecycle import Change
from ...jobs.record import JobRecord
from ...jobs.record import Status
from ...jobs.transitions import CANCEL as CANCEL_ROWS
from ...jobs.transitions import REQUEUE as REQUEUE_ROWS
from ...jobs.transitions import Transition
from .. import listing
from ..base import Jobs
from ..listing import Count
from ..listing import Filter
from ..listing import find_page
from ..listing import Page
from .claims import with_claim
from .layout import CODES
from .layout import has_logs
from .layout import is_queued
from .layout import to_record
from .listing import Lists
from .script_source import CANCEL
from .script_source import DELETE
from .script_source import GET_QUEUED
from .script_source import PRUNE
from .script_source import REQUEUE
from .store import Store

#: How often a caller that waits for a job reads its record, in milliseconds: the first
#: interval, and the longest one.
FIRST_LOOK: Final = 2.0
LAST_LOOK: Final = 50.0


class RedisJobs(Jobs):
    """Job records. Each is a string whose key contains the job's id."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, job_id: str) -> JobRecord | None:
        [raw] = self._store.command("MGET", f"{self._store.prefix}j:{job_id}")
        if is_queued(raw):
            raw, *holder = self._store.run(GET_QUEUED, job_id)
            if holder:
                worker, token = holder
                raw = with_claim(raw, worker.decode(), token)
        return self._read(job_id, raw)

    def wait(self, job_id: str, timeout: int | None) -> JobRecord | None:
        clock = self._store.clock
        until = None if timeout is None else clock.monotonic() + timeout
        interval = FIRST_LOOK
        never = threading.Condition()  # only its timeout ends the wait
        while True:
            record = self.get(job_id)
            if record is None or record.status.is_final:
                return record
            left = interval if until is None else until - clock.monotonic()
            if left <= 0:
                return record
            with never:
                clock.wait(never, min(left, interval))
            interval = min(interval * 1.5, LAST_LOOK)

    def cancel(self, job_id: str) -> JobRecord | None:
        if self.get(job_id) is None:
            return None
        change = self._store.packer.pack(_change_of(lifecycle.cancel, CANCEL_ROWS))
        return self._read(job_id, self._store.run(CANCEL, self._store.now(), job_id, change))

    def requeue(self, job_id: str) -> JobRecord | None:
        if self.get(job_id) is None:
            return None
        change = self._store.packer.pack(_change_of(lifecycle.requeue, REQUEUE_ROWS))
        statuses = "".join(f"{CODES[status]:02}" for status in REQUEUE_ROWS)
        raw = self._store.run(REQUEUE, self._store.now(), job_id, statuses, change)
        return self._read(job_id, raw)

    def delete(self, job_id: str) -> JobRecord | None:
        record = self.get(job_id)
        if record is None:
            return None
        raw = self._store.run(DELETE, job_id)
        if not raw:
            return None
        # The script has already removed the job's log.
        return msgspec.structs.replace(to_record(job_id, raw), logs=record.logs)

    def prune(self) -> int:
        return int(self._store.run(PRUNE, self._store.now()))

    # --- Lists ---

    def page(self, wanted: Filter, cursor: str | None = None, limit: int = 50) -> Page:
        return find_page(self._lists(wanted).sections(), wanted, cursor, limit)

    def _lists(self, wanted: Filter) -> Lists:
        return Lists(self._store, wanted, self._decode)

    def counts(self, wanted: Filter) -> dict[Status, Count]:
        return {status: self._count(wanted, status) for status in Status if wanted.has(status)}

    def _count(self, wanted: Filter, status: Status) -> Count:
        if wanted.queue is None and wanted.actor is None:
            if self._size(status) > listing.WINDOW:
                return Count(listing.WINDOW, False)
        # The jobs are examined one by one, because records that have expired may not be removed
        # yet.
        return self._lists(msgspec.structs.replace(wanted, statuses=(status,))).count()

    def _size(self, status: Status) -> int:
        prefix = self._store.prefix
        if status in (Status.QUEUED, Status.SCHEDULED):
            return sum(map(int, self._store.command("HVALS", f"{prefix}{status}")))
        if status.is_final:
            return int(self._store.command("LLEN", f"{prefix}over:{status}"))
        return 0

    def _read(self, job_id: str, raw: bytes | None) -> JobRecord | None:
        if not raw:
            return None
        record = self._decode(job_id, raw)
        expires_at = record.expires_at
        is_over = expires_at is not None and expires_at <= self._store.now()
        return None if is_over else record

    def _decode(self, job_id: str, raw: bytes) -> JobRecord:
        lines = self._read_log(job_id) if has_logs(raw) else ()
        return to_record(job_id, raw, lines)

    def _read_log(self, job_id: str) -> Sequence[bytes]:
        try:
            key = f"{self._store.prefix}log:{job_id}"
            lines: list[bytes] = self._store.command("LRANGE", key, 0, -1)
        except BrokerConnectionError:
            raise
        except BrokerError:
            return ()  # the key has a value of another type
        return lines


def _change_of(
    find: Callable[[Status], Change | None], rows: Mapping[Status, Transition]
) -> Change:
    # The change is the same for each of these statuses.
    [change, *_] = [change for status in rows if (change := find(status)) is not None]
    return change

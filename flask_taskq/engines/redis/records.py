"""What the engine knows of jobs and of queues."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

from ...errors import BrokerConnectionError
from ...errors import BrokerError
from ...jobs.record import JobRecord
from ..base import Jobs
from ..base import Queues
from .layout import has_logs
from .layout import to_record
from .script import CANCEL
from .script import PRUNE
from .script import PURGE
from .script import PURGE_DUE
from .store import Store

#: How often somebody who waits for a job looks at its record, in milliseconds: at first,
#: and in the end.
FIRST_LOOK: Final = 2.0
LAST_LOOK: Final = 50.0


class RedisJobs(Jobs):
    """Records, each a string under its id."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, job_id: str) -> JobRecord | None:
        [raw] = self._store.command("MGET", f"{self._store.prefix}j:{job_id}")
        return self._read(job_id, raw)

    def wait(self, job_id: str, timeout: int | None) -> JobRecord | None:
        clock = self._store.clock
        until = None if timeout is None else clock.monotonic() + timeout
        interval = FIRST_LOOK
        nobody = threading.Condition()
        while True:
            record = self.get(job_id)
            if record is None or record.status.is_final:
                return record
            left = interval if until is None else until - clock.monotonic()
            if left <= 0:
                return record
            with nobody:
                clock.wait(nobody, min(left, interval))
            interval = min(interval * 1.5, LAST_LOOK)

    def cancel(self, job_id: str) -> JobRecord | None:
        if self.get(job_id) is None:
            return None
        now = self._store.now()
        raw = self._store.run(CANCEL, now, job_id, self._store.settings.result_ttl)
        return self._read(job_id, raw)

    def prune(self) -> int:
        return int(self._store.run(PRUNE, self._store.now()))

    def _read(self, job_id: str, raw: bytes | None) -> JobRecord | None:
        if not raw:
            return None
        lines = self._read_log(job_id) if has_logs(raw) else ()
        record = to_record(job_id, raw, lines)
        expires_at = record.expires_at
        is_over = expires_at is not None and expires_at <= self._store.now()
        return None if is_over else record

    def _read_log(self, job_id: str) -> Sequence[bytes]:
        try:
            key = f"{self._store.prefix}log:{job_id}"
            lines: list[bytes] = self._store.command("LRANGE", key, 0, -1)
        except BrokerConnectionError:
            raise
        except BrokerError:
            return ()  # it is something else
        return lines


class RedisQueues(Queues):
    """What waits."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def depths(self) -> dict[str, int]:
        reply = self._store.command("HGETALL", f"{self._store.prefix}waiting")
        counts = zip(reply[::2], reply[1::2], strict=True)
        return {queue.decode(): int(count) for queue, count in counts if int(count) > 0}

    def purge(self, queue: str) -> int:
        # What is sent meanwhile stays, so that this comes to an end.
        newest = self._store.command("GET", f"{self._store.prefix}seq") or b"0"
        removed = 0
        left = True
        while left:
            count, left = self._store.run(PURGE, queue, newest)
            removed += count
        for key in ("due", "due:alone"):
            cursor = b"0"
            while True:
                count, cursor = self._store.run(PURGE_DUE, queue, newest, key, cursor)
                removed += count
                if cursor == b"0":
                    break
        return removed

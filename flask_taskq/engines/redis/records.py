"""What the engine knows of jobs."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec

from ...errors import BrokerConnectionError
from ...errors import BrokerError
from ...errors import DecodeError
from ...jobs import lifecycle
from ...jobs.lifecycle import Change
from ...jobs.record import JobRecord
from ...jobs.record import Lane
from ...jobs.record import Status
from ...jobs.transitions import CANCEL as CANCEL_ROWS
from ...jobs.transitions import REQUEUE as REQUEUE_ROWS
from ...jobs.transitions import Transition
from .. import listing
from ..base import Jobs
from ..listing import Count
from ..listing import Entry
from ..listing import Filter
from ..listing import find_page
from ..listing import Key
from ..listing import name_queued
from ..listing import Page
from ..listing import Section
from ..listing import wanted_final
from .layout import CODES
from .layout import has_logs
from .layout import to_record
from .layout import to_score
from .layout import to_turn
from .script import CANCEL
from .script import DELETE
from .script import HEADS
from .script import PRUNE
from .script import REQUEUE
from .script import TAILS
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
        # Its log is gone by now.
        return msgspec.structs.replace(to_record(job_id, raw), logs=record.logs)

    def prune(self) -> int:
        return int(self._store.run(PRUNE, self._store.now()))

    # --- Lists ---

    def page(self, wanted: Filter, cursor: str | None = None, limit: int = 50) -> Page:
        return find_page(self._sections(wanted), wanted, cursor, limit)

    def _sections(self, wanted: Filter) -> Iterator[Section]:
        if wanted.has(Status.RUNNING):
            yield Section("running", self._read_running)
        if wanted.has(Status.QUEUED):
            counts = self._store.command("HGETALL", f"{self._store.prefix}queued")
            queues = {queue.decode() for queue in counts[::2]}
            for queue in sorted(queues & {wanted.queue or queue for queue in queues}):
                alone = partial(self._read_alone, queue)
                yield Section(name_queued(queue, Lane.ALONE), alone)
                ordinary = partial(self._read_ordinary, queue)
                yield Section(name_queued(queue, Lane.ORDINARY), ordinary)
        if wanted.has(Status.SCHEDULED):
            yield Section("scheduled", self._read_scheduled)
        if final := wanted_final(wanted):
            yield Section("final", partial(self._read_newest, final))

    def _read_running(self, after: Key | None, limit: int) -> list[Entry]:
        prefix = self._store.prefix
        workers = self._store.command("HKEYS", f"{prefix}leases")
        lost = self._store.command("ZRANGE", f"{prefix}lost", 0, -1)
        keys = [f"{prefix}own:{worker.decode()}" for worker in workers]
        keys += [f"{prefix}lost:{name.decode()}" for name in lost]
        ids = {one for key in keys for one in self._store.command("HKEYS", key)}
        found = self._entries([((one.decode(),), one) for one in sorted(ids)], Status.RUNNING)
        return [one for one in found if after is None or one[0] > after][:limit]

    def _read_ordinary(self, queue: str, after: Key | None, limit: int) -> list[Entry]:
        priority, place = (-1_000, -1) if after is None else after[:2]
        found = self._store.run(HEADS, queue, priority, place, limit)
        keyed = [
            ((int(level), int(at), job_id.decode()), job_id)
            for job_id, level, at in zip(found[::3], found[1::3], found[2::3], strict=True)
        ]
        return self._entries(keyed, Status.QUEUED)

    def _read_alone(self, queue: str, after: Key | None, limit: int) -> list[Entry]:
        key = f"{self._store.prefix}alone:{queue}"
        start = "-inf" if after is None else f"({to_score(*after[:2])}"
        keyed = [
            ((*to_turn(score), job_id.decode()), job_id)
            for job_id, score in self._range("ZRANGEBYSCORE", key, start, "+inf", limit)
        ]
        return self._entries(keyed, Status.QUEUED)

    def _read_scheduled(self, after: Key | None, limit: int) -> list[Entry]:
        found: list[tuple[bytes, int]] = []
        for name in ("due", "due:alone"):
            key = f"{self._store.prefix}{name}"
            if after is not None:
                # Those of the same moment, which stand behind it.
                behind = f"{after[1]:012x}{after[2]}".encode()
                same = self._range("ZRANGEBYSCORE", key, after[0], after[0], None)
                found += [one for one in same if one[0] > behind]
            start = "-inf" if after is None else f"({after[0]}"
            found += self._range("ZRANGEBYSCORE", key, start, "+inf", limit)
        keyed = [
            ((due, int(member[:12], 16), member[12:].decode()), member[12:])
            for member, due in found
        ]
        keyed.sort()
        return self._entries(keyed[:limit], Status.SCHEDULED)

    def _read_newest(
        self, statuses: Sequence[Status], after: Key | None, limit: int
    ) -> list[Entry]:
        # The key of an entry says how far each list is read when it has been. The places in a
        # list do not change: what leaves its head is counted.
        places: list[int | None] = [None] * len(statuses) if after is None else [*after[:-1]]
        arguments: list[str | int] = [limit]
        for status, place in zip(statuses, places, strict=True):
            arguments += (status.value, "" if place is None else place)
        lists: list[deque[Entry]] = []
        tails = self._store.run(TAILS, *arguments)
        for status, (last, ids) in zip(statuses, tails, strict=True):
            keyed: list[tuple[Key, bytes]] = [((last - n,), one) for n, one in enumerate(ids)]
            lists.append(deque(self._entries(keyed, status)))
        ends = [one[0][0][0] + 1 if one else 0 for one in lists]
        entries: list[Entry] = []
        while any(lists) and len(entries) < limit:
            left = [n for n, one in enumerate(lists) if one]
            n = max(left, key=lambda n: _ended(lists[n][0]))
            (place,), record = lists[n].popleft()
            ends[n] = place
            entries.append(((*ends, "" if record is None else record.id), record))
        return entries

    def _range(
        self, command: str, key: str, start: str | int, end: str | int, limit: int | None
    ) -> list[tuple[bytes, int]]:
        """Members of a sorted set with their scores."""
        words: list[str | int] = [command, key, start, end, "WITHSCORES"]
        if limit is not None:
            words += ("LIMIT", 0, limit)
        reply = self._store.command(*words)
        scores = (int(float(score)) for score in reply[1::2])
        return list(zip(reply[::2], scores, strict=True))

    def _entries(self, keyed: Sequence[tuple[Key, bytes]], status: Status) -> list[Entry]:
        """Entries of a list. Of a job that has moved from it meanwhile none has a record."""
        if not keyed:
            return []
        keys = [f"{self._store.prefix}j:{job_id.decode()}" for _, job_id in keyed]
        now = self._store.now()
        entries: list[Entry] = []
        for (key, job_id), raw in zip(keyed, self._store.command("MGET", *keys), strict=True):
            record = None
            with suppress(DecodeError):
                lines = self._read_log(job_id.decode()) if raw and has_logs(raw) else ()
                record = to_record(job_id.decode(), raw or b"", lines)
            if record is not None:
                is_over = record.expires_at is not None and record.expires_at <= now
                record = None if is_over or record.status is not status else record
            entries.append((key, record))
        return entries

    def counts(self, wanted: Filter) -> dict[Status, Count]:
        return {status: self._count(wanted, status) for status in Status if wanted.has(status)}

    def _count(self, wanted: Filter, status: Status) -> Count:
        if wanted.queue is None and wanted.actor is None:
            if self._size(status) > listing.WINDOW:
                return Count(listing.WINDOW, False)
        # Looked at one by one: what is over may have expired, and nobody has removed it yet.
        one = msgspec.structs.replace(wanted, statuses=(status,))
        records, cursor = find_page(self._sections(one), one, None, listing.WINDOW)
        if cursor is not None:
            more = find_page(self._sections(one), one, cursor, 1)
            return Count(len(records), not more.records and more.cursor is None)
        return Count(len(records), True)

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


def _change_of(
    find: Callable[[Status], Change | None], rows: Mapping[Status, Transition]
) -> Change:
    # The same, whichever of these statuses the job has.
    [change, *_] = [change for status in rows if (change := find(status)) is not None]
    return change


def _ended(entry: Entry) -> float:
    # One that has no record any more is passed over at once.
    return math.inf if entry[1] is None else entry[1].finished_at or 0

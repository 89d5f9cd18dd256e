"""The waiting jobs of the queues, and the paused queues."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ...jobs.record import Lane
from ...jobs.record import Status
from ..base import Queues
from ..listing import QueueState
from .layout import to_record
from .script_source import HAS_DUE
from .script_source import LIST_QUEUED
from .script_source import PURGE
from .script_source import PURGE_DUE
from .script_source import RESUME
from .store import Store


class RedisQueues(Queues):
    """The queues of a Redis server."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def depths(self) -> dict[str, int]:
        return dict(Counter(self._count("queued")) + Counter(self._count("scheduled")))

    def _count(self, name: str) -> dict[str, int]:
        reply = self._store.command("HGETALL", f"{self._store.prefix}{name}")
        counts = zip(reply[::2], reply[1::2], strict=True)
        return {queue.decode(): int(count) for queue, count in counts if int(count) > 0}

    def states(self) -> list[QueueState]:
        queued, scheduled, paused = (
            self._count("queued"),
            self._count("scheduled"),
            self.paused(),
        )
        return [
            QueueState(
                queue=queue,
                queued=queued.get(queue, 0),
                scheduled=scheduled.get(queue, 0),
                oldest=self._find_oldest(queue) if queue in queued else None,
                is_paused=queue in paused,
            )
            for queue in sorted({*queued, *scheduled, *paused})
        ]

    def _find_oldest(self, queue: str) -> int | None:
        prefix = self._store.prefix
        alone = self._store.command("ZRANGE", f"{prefix}alone:{queue}", 0, 0)
        for job_id in (*alone, *self._store.run(LIST_QUEUED, queue, -1_000, -1, 1)[::3]):
            [raw] = self._store.command("MGET", f"{prefix}j:{job_id.decode()}")
            if raw:
                record = to_record(job_id.decode(), raw)
                if record.status is Status.QUEUED:
                    return record.updated_at
        return None

    def paused(self) -> set[str]:
        members = self._store.command("SMEMBERS", f"{self._store.prefix}paused")
        return {queue.decode() for queue in members}

    def pause(self, queue: str) -> None:
        self._store.command("SADD", f"{self._store.prefix}paused", queue)

    def resume(self, queue: str) -> None:
        self._store.run(RESUME, queue)

    def has_due(self, queues: Sequence[str], lane: Lane) -> bool:
        alone = int(lane is Lane.ALONE)
        return bool(self._store.run(HAS_DUE, self._store.now(), alone, *queues))

    def purge(self, queue: str) -> int:
        # Jobs that are sent meanwhile are not removed, so that the loop ends.
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

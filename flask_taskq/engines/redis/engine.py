"""The engine class. It passes calls on to the parts that use a :class:`~.store.Store`."""

from __future__ import annotations

from collections.abc import Sequence

from ...clock import Clock
from ...config import Settings
from ...errors import ConfigurationError
from ...jobs.delivery import Envelope
from ...jobs.record import Lane
from ...jobs.record import Status
from ..base import Consumer
from ..base import Engine
from ..base import Enqueued
from .connection import RedisConnection
from .consumer import RedisConsumer
from .errors import Refused
from .layout import STATUSES
from .layout import to_arguments
from .queues import RedisQueues
from .records import RedisJobs
from .script_source import ENQUEUE
from .store import Store
from .workers import RedisWorkers


class RedisEngine(Engine):
    """An engine that stores jobs in Redis or Valkey, for all machines that can reach the
    server.

    :raises ConfigurationError: the URL or the options are wrong.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        super().__init__(settings, clock)
        self._store = Store(settings, clock)
        self.jobs = RedisJobs(self._store)
        self.queues = RedisQueues(self._store)
        self.workers = RedisWorkers(self._store)

    def connect(self) -> None:
        try:
            self._store.use(RedisConnection.connect)
        except Refused as error:
            raise ConfigurationError(f"{self.settings.url_key}: {error}") from error

    def now(self) -> int:
        return self._store.server.now()

    def enqueue(self, envelopes: Sequence[Envelope]) -> list[Enqueued]:
        if not envelopes:
            return []
        now = self._store.now()
        known = self._store.run(ENQUEUE, *to_arguments(envelopes, now), is_durable=True)
        stored = []
        for envelope in envelopes:
            due_at = envelope.waits_until(now)
            status = Status.QUEUED if due_at is None else Status.SCHEDULED
            stored.append(Enqueued(envelope.id, status, due_at, None, now))
        for at, job_id, code, due, reason in known or ():
            due_at = None if due < 0 else due
            status = STATUSES[code]
            stored[at] = Enqueued(job_id.decode(), status, due_at, reason.decode(), now)
        return stored

    def consumer(
        self, queues: Sequence[str], worker: str, lane: Lane = Lane.ORDINARY
    ) -> Consumer:
        return RedisConsumer(self._store, queues, worker, lane)

    def close(self) -> None:
        self._store.close()

"""The engine: the contract's front, over a :class:`~.store.Store`."""

from __future__ import annotations

from collections.abc import Sequence

from ...clock import Clock
from ...config import Settings
from ...errors import ConfigurationError
from ...jobs.delivery import Envelope
from ..base import Consumer
from ..base import Engine
from .consumer import RedisConsumer
from .faults import Refused
from .layout import to_arguments
from .records import RedisJobs
from .records import RedisQueues
from .script import ENQUEUE
from .store import Store
from .workers import RedisWorkers


class RedisEngine(Engine):
    """Jobs in Redis or Valkey, for all machines that reach it.

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
            self._store.use(lambda link: link.connect())
        except Refused as error:
            raise ConfigurationError(f"{self.settings.url_key}: {error}") from error

    def now(self) -> int:
        return self._store.server.now()

    def enqueue(self, envelopes: Sequence[Envelope]) -> int:
        now = self._store.now()
        if envelopes:
            self._store.run(ENQUEUE, *to_arguments(envelopes, now), is_durable=True)
        return now

    def consumer(
        self, queues: Sequence[str], worker: str, *, isolated: bool = False
    ) -> Consumer:
        return RedisConsumer(self._store, queues, worker, isolated)

    def close(self) -> None:
        self._store.close()

"""The lease of one worker: until when its deliveries are valid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ...clock import Clock
from ...engines.base import Workers
from ...engines.listing import WorkerInfo
from ...errors import BrokerError
from ...loggers import get_logger
from ..slot_table import SlotTable

logger = get_logger(__name__)

#: A worker starts no jobs if this part of its lease has passed without a renewal ...
_TRUST: Final = 5 / 6
#: ... and renews the lease itself after this part: its supervisor is stopped or dead.
_NEGLECT: Final = 2 / 3


class Lease:
    """A worker's own view of its lease.

    The time of the last renewal is in the slot table, since normally the supervisor renews the
    lease.

    :param worker: the name under which the worker registers.
    :param duration: how long a lease is, in milliseconds.
    :param describe: returns what the worker registers about itself.
    """

    def __init__(
        self,
        workers: Workers,
        worker: str,
        duration: int,
        clock: Clock,
        slots: SlotTable,
        describe: Callable[[], WorkerInfo] = WorkerInfo,
    ) -> None:
        self._workers = workers
        self._worker = worker
        self._duration = duration
        self._trust = duration * _TRUST
        self._clock = clock
        self._slots = slots
        self._describe = describe

    def begin(self) -> None:
        """Register, at the start or after the lease was lost."""
        began = self._clock.monotonic()
        self._workers.register(self._worker, self._describe())
        self._slots.renewed_at = began

    def renew(self) -> bool:
        """Renew the lease.

        :return: False if it is lost. An engine that is out of reach does not count.
        """
        began = self._clock.monotonic()
        try:
            lost = self._workers.renew([self._worker])
        except BrokerError as error:
            logger.warning("worker %s cannot renew its lease: %s", self._worker, error)
            return True
        if not lost:
            self._slots.renewed_at = began
        return not lost

    def is_trusted(self, now: float) -> bool:
        """Whether jobs may be started: no reaper can have freed them.

        :param now: milliseconds of the monotonic clock.
        """
        return now - self._slots.renewed_at < self._trust

    def is_neglected(self) -> bool:
        """Whether the supervisor did not renew it in time."""
        return self._unrenewed() > self._duration * _NEGLECT

    def _unrenewed(self) -> float:
        return self._clock.monotonic() - self._slots.renewed_at

"""The supervisor's side of leases: renewing them, and taking jobs from the dead."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from collections.abc import Sequence
from queue import Empty
from queue import SimpleQueue
from typing import Final

from ..clock import Clock
from ..engines.base import Engine
from ..errors import TaskQError
from .slots import SlotTable

logger = logging.getLogger(__name__)

#: How often, in milliseconds, leases of other workers and isolated jobs are looked for.
_LOOK_AROUND: Final = 1_000

#: How often records past their retention are removed, in milliseconds.
_PRUNE: Final = 60_000

#: How long to wait, in milliseconds, after the engine could not be reached.
_RETRY: Final = 500


class LeaseKeeper:
    """A thread that makes all engine calls of a supervisor, so that none holds up signals.

    :param engine: an engine of its own.
    :param queues: the queues that this supervisor's workers serve.
    :param on_isolated: called when a job is due that must run alone in a process.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        queues: Sequence[str],
        on_isolated: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._queues = queues
        self._on_isolated = on_isolated
        self._watched: dict[str, SlotTable] = {}
        self._lock = threading.Lock()
        # What is to be done at once; None ends the thread.
        self._errands: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._keep, name="taskq-leases", daemon=True)
        lease = engine.settings.lease
        now = clock.monotonic()
        # Chore -> (how often, when next), in milliseconds of the monotonic clock.
        self._chores: dict[Callable[[], None], tuple[float, float]] = {
            self._renew: (lease / 5, now),
            self._look_around: (min(_LOOK_AROUND, lease / 5), now),
            self._prune: (_PRUNE, now),
        }

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def watch(self, worker: str, slots: SlotTable) -> None:
        """Renew this worker's lease from now on, and tell it so through its slot table."""
        with self._lock:
            self._watched[worker] = slots

    def unwatch(self, worker: str) -> None:
        """Renew this worker's lease no longer; its slot table may be closed afterwards."""
        with self._lock:
            self._watched.pop(worker, None)

    def hand_back(self, worker: str, started: Sequence[str], cause: str) -> None:
        """Take a dead worker's jobs from it, as soon as the engine can be reached.

        :param started: ids of the jobs that it was running.
        :param cause: how it died.
        """
        self._errands.put(lambda: self._hand_back(worker, started, cause))

    def stop(self, timeout: float) -> None:
        """Do what is left to do, and end.

        :param timeout: how long that may take, in milliseconds.
        """
        self._errands.put(None)
        self._thread.join(timeout / 1000)

    def _keep(self) -> None:
        while True:
            due = min(at for _, at in self._chores.values())
            left = max(0.0, due - self._clock.monotonic()) / 1000
            try:
                errand = self._errands.get(timeout=left)
            except Empty:
                self._do_chores()
            else:
                if errand is None:
                    return
                self._do(errand, again=True)

    def _do_chores(self) -> None:
        for chore, (period, at) in self._chores.items():
            now = self._clock.monotonic()
            if at <= now:
                done = self._do(chore)
                self._chores[chore] = (period, now + (period if done else _RETRY))

    def _do(self, action: Callable[[], None], again: bool = False) -> bool:
        try:
            action()
        except Exception as error:
            expected = isinstance(error, TaskQError)
            logger.error("leases: %s", error, exc_info=None if expected else error)
            if again:
                self._later(action)
            return False
        return True

    def _later(self, action: Callable[[], None]) -> None:
        timer = threading.Timer(_RETRY / 1000, self._errands.put, (action,))
        timer.daemon = True
        timer.start()

    def _renew(self) -> None:
        with self._lock:
            workers = list(self._watched)
        if not workers:
            return
        began = self._clock.monotonic()
        lost = self._engine.workers.renew(workers)
        with self._lock:
            for worker in workers:
                # One that lost its lease sees it go unrenewed, and registers again.
                if worker in self._watched and worker not in lost:
                    self._watched[worker].renewed_at = began

    def _look_around(self) -> None:
        for worker in self._engine.workers.reap():
            logger.warning("worker %s is gone: its lease ran out, its jobs are free", worker)
        if self._engine.workers.has_isolated(self._queues):
            self._on_isolated()

    def _prune(self) -> None:
        while self._engine.jobs.prune():
            pass

    def _hand_back(self, worker: str, started: Sequence[str], cause: str) -> None:
        for job_id in self._engine.workers.hand_back(worker, started, cause):
            logger.error(
                "job %s failed: the worker process died while it held this job, too often"
                " to try again: %s",
                job_id,
                cause,
            )

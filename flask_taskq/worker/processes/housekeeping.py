"""The housekeeping thread of a supervisor: renews leases, frees the jobs of dead workers,
starts isolated jobs, checks hard time limits, and prunes.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from collections.abc import Sequence
from typing import Final

from ...clock import Clock
from ...engines.base import Engine
from ...errors import TaskQError
from ...jobs.record import Lane
from ...loggers import get_logger
from ..liveness import find_host
from ..liveness import is_dead
from ..slot_table import SlotTable

logger = get_logger(__name__)

#: How often leases of other workers, and isolated jobs, are checked, in milliseconds.
_LOOK_AROUND: Final = 1_000

#: How long a process has to react itself to a job over its hard time limit, in milliseconds.
_LATENESS: Final = 2_000

#: How often expired records are removed, in milliseconds, and how soon again when there are
#: many.
_PRUNE: Final = 60_000
_PRUNE_MORE: Final = 50

#: How long to wait, in milliseconds, after the engine could not be reached.
_RETRY: Final = 500


class Housekeeper:
    """A thread that makes all engine calls of a supervisor, so that none delays signals.

    :param engine: an engine that only it uses, and closes at its end.
    :param queues: the queues that this supervisor's workers serve.
    :param on_alone: called when an isolated job is due.
    :param on_overdue: called with a worker and its jobs over their hard time limit, if its
        process does not react.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        queues: Sequence[str],
        on_alone: Callable[[], None],
        on_overdue: Callable[[str, list[str]], None],
    ) -> None:
        self._engine = engine
        self._clock = clock
        #: May be replaced at any time.
        self.queues = queues
        self._on_alone = on_alone
        self._on_overdue = on_overdue
        self._watched: dict[str, SlotTable] = {}
        self._lock = threading.Lock()
        # Requests to do something at once; None ends the thread.
        self._requests: deque[Callable[[], float] | None] = deque()
        self._has_requests = threading.Condition()
        # How many requests wait for another try, and whether it ends after them.
        self._waiting = 0
        self._is_ending = False
        self._thread = threading.Thread(target=self._keep, name="taskq-leases", daemon=True)
        self._lease = engine.settings.lease
        now = clock.monotonic()
        # When leases were last renewed, and when other workers may be reaped.
        self._renewed_at = now
        self._reaps_from = now + _LOOK_AROUND
        # Each duty, and when it is due. A duty returns in how many milliseconds it is due
        # again.
        self._duties: dict[Callable[[], float], float] = {
            self._renew: now,
            self._take_from_dead: now,
            self._reap: now,
            self._look_for_alone: now,
            self._check_limits: now,
            self._prune: now,
        }
        self._trouble = ""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def watch(self, worker: str, slots: SlotTable) -> None:
        """Renew this worker's lease from now on, and write the time to its slot table."""
        with self._lock:
            self._watched[worker] = slots

    def unwatch(self, worker: str) -> None:
        """Stop renewing this worker's lease. Its slot table may be closed afterwards."""
        with self._lock:
            self._watched.pop(worker, None)

    def hand_back(self, worker: str, started: Sequence[str] | None, cause: str) -> None:
        """Free a dead worker's jobs, as soon as the engine can be reached.

        :param started: ids of the jobs that it was running; None if that is unknown.
        :param cause: how it died.
        """
        self._put(lambda: self._hand_back(worker, started, cause))

    def end(self) -> None:
        """Finish the requests, and end. Does not wait for that."""
        self._put(None)

    def join(self, timeout: float) -> None:
        """Wait until it has ended.

        :param timeout: in milliseconds. It may be waiting for an engine that is out of reach.
        """
        self._thread.join(timeout / 1000)

    def _keep(self) -> None:
        while self._waiting or not self._is_ending:
            with self._has_requests:
                left = min(self._duties.values()) - self._clock.monotonic()
                if not self._requests and left > 0:
                    self._clock.wait(self._has_requests, left)
                requests, self._requests = self._requests, deque()
            for request in requests:
                self._run_request(request)
            self._do_duties()
        self._engine.close()

    def _put(self, request: Callable[[], float] | None) -> None:
        with self._has_requests:
            self._requests.append(request)
            self._has_requests.notify()

    def _run_request(self, request: Callable[[], float] | None) -> None:
        if request is None:
            self._is_ending = True
        elif self._do(request) is None:
            self._waiting += 1
            self._later(request)

    def _do_duties(self) -> None:
        for duty, due in self._duties.items():
            if due <= self._clock.monotonic():
                again_in = self._do(duty)
                again_in = _RETRY if again_in is None else again_in
                self._duties[duty] = self._clock.monotonic() + again_in

    def _do(self, action: Callable[[], float]) -> float | None:
        """Return the result of an action, or None if it failed."""
        try:
            again_in = action()
        except Exception as error:
            expected = isinstance(error, TaskQError)
            if str(error) != self._trouble:  # once, not with every try
                logger.error(
                    "leases, will try again: %s", error, exc_info=None if expected else error
                )
            self._trouble = str(error)
            return None
        self._trouble = ""
        return again_in

    def _later(self, request: Callable[[], float]) -> None:
        def again() -> float:
            self._waiting -= 1
            return request()

        timer = threading.Timer(_RETRY / 1000, self._put, (again,))
        timer.daemon = True
        timer.start()

    def _renew(self) -> float:
        with self._lock:
            workers = list(self._watched)
        began = self._clock.monotonic()
        lost = self._engine.workers.renew(workers) if workers else []
        with self._lock:
            for worker in workers:
                # A worker that lost its lease notices that, and registers again.
                if worker in self._watched and worker not in lost:
                    self._watched[worker].renewed_at = began
        now = self._clock.monotonic()
        if now - self._renewed_at > self._lease / 2:
            # The engine was out of reach, perhaps for all workers. They get time to renew
            # their leases before any is taken for dead.
            self._reaps_from = now + _LOOK_AROUND
        self._renewed_at = now
        return self._lease / 5

    def _reap(self) -> float:
        now = self._clock.monotonic()
        if now >= self._reaps_from and now - self._renewed_at <= self._lease / 2:
            for worker in self._engine.workers.reap():
                logger.warning(
                    "worker %s is gone: its lease ran out, its jobs are free", worker
                )
        # A lease may end right after one check, and have been renewed right after another: jobs
        # of dead workers wait for up to two intervals.
        return min(_LOOK_AROUND, self._lease / 10)

    def _look_for_alone(self) -> float:
        if self._engine.queues.has_due(self.queues, Lane.ALONE):
            self._on_alone()
        return _LOOK_AROUND

    def _take_from_dead(self) -> float:
        # The death of workers of this machine can be proven before their lease is over.
        host = find_host()
        infos = {} if host is None else self._engine.workers.list_on(host)
        for worker, info in infos.items():
            if is_dead(info):
                self._hand_back(worker, None, "it was killed together with its supervisor")
                logger.warning(
                    "worker %s is dead with its supervisor: its jobs are free", worker
                )
        return _LOOK_AROUND

    def _check_limits(self) -> float:
        # A process enforces its limits itself, unless it is stopped, or C code holds the
        # interpreter's lock.
        until = self._clock.monotonic() - _LATENESS
        with self._lock:
            overdue = {
                worker: [job.job_id for job in slots.started() if job.kill_at < until]
                for worker, slots in self._watched.items()
            }
        for worker, jobs in overdue.items():
            if jobs:
                self._on_overdue(worker, jobs)
        return _LOOK_AROUND

    def _prune(self) -> float:
        # A few at a time, so that more urgent work need not wait.
        return _PRUNE_MORE if self._engine.jobs.prune() else _PRUNE

    def _hand_back(self, worker: str, started: Sequence[str] | None, cause: str) -> float:
        failed = self._engine.workers.hand_back(worker, started, cause)
        for job_id in dict.fromkeys((*(started or ()), *failed)):
            actor = self._find_actor(job_id)
            level, text = logging.WARNING, "was running when its process died"
            if job_id in failed:
                level = logging.ERROR
                text = "failed: its process died, too often to try it again"
            logger.log(
                level,
                "job %s of actor %s %s: %s",
                job_id,
                actor or "(unknown)",
                text,
                cause,
                extra={"job_id": job_id, "actor": actor},
            )
        return 0

    def _find_actor(self, job_id: str) -> str | None:
        try:
            record = self._engine.jobs.get(job_id)
        except TaskQError:
            # Only for the log: the jobs are freed.
            return None
        return None if record is None else record.actor

"""Raises exceptions in runs: time limits, cancelling, shutdown, and lost leases."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from collections.abc import Sequence
from typing import Final

from ...actors.run import Run
from ...clock import Clock
from ...errors import Interrupt
from ...errors import TimeLimitExceeded
from ...loggers import get_logger
from ..runner import Runner

logger = get_logger(__name__)

#: How often the thread wakes when nothing is due, in milliseconds. A job whose time limit is
#: further away need not wake it.
_REST: Final = 60_000

#: How soon the thread tries again, in milliseconds, to raise an exception in a run whose
#: actor's code was not running at that moment.
_AGAIN: Final = 20


class Interrupter:
    """Raises pending interrupts in runs, and reports runs that do not end.

    :param runners: the runners of these runs.
    :param on_stuck: called once for a run that should have ended long ago.
    """

    def __init__(
        self, runners: Sequence[Runner], clock: Clock, on_stuck: Callable[[Runner, Run], None]
    ) -> None:
        self._runners = runners
        self._clock = clock
        self._on_stuck = on_stuck
        self._changed = threading.Condition()
        #: When the thread wakes, in milliseconds of the monotonic clock.
        self.wakes_at = -math.inf
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="taskq-interrupter", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def expect(self, at: float) -> None:
        """Wake by this time of the monotonic clock: something is due then."""
        if at < self.wakes_at:
            with self._changed:
                self.wakes_at = -math.inf
                self._changed.notify_all()

    def interrupt(self, run: Run, exception: type[Interrupt], patience: int = 0) -> None:
        """Let a run end with an exception.

        :param patience: raise the exception in it after so many milliseconds, unless it has
            ended by then or is cooperative.
        """
        run.interrupt(exception, self._clock.monotonic() + patience)
        self.expect(run.raise_at)

    def _run(self) -> None:
        while not self._is_over:
            with self._changed:
                # Set before the check: what becomes due meanwhile is not missed.
                self.wakes_at = self._clock.monotonic() + _REST
            due = self._look()
            with self._changed:
                now = self._clock.monotonic()
                if self.wakes_at == -math.inf or self._is_over:
                    continue
                self.wakes_at = min(self.wakes_at, due)
                self._clock.wait(self._changed, max(0.0, self.wakes_at - now))

    def _look(self) -> float:
        """Check all runs. :return: when the next check is due."""
        due = math.inf
        for runner in self._runners:
            run = runner.current
            if run is not None:
                try:
                    due = min(due, self._see_to(runner, run))
                except BaseException:
                    # An error over this run must not end the thread, which other runs need.
                    logger.exception("job %s cannot be watched", run.delivery.id)
        return due

    def _see_to(self, runner: Runner, run: Run) -> float:
        now = self._clock.monotonic()
        if run.limit_at <= now:
            run.limit_at = math.inf
            run.interrupt(TimeLimitExceeded, now)
        interrupt = run.interrupted_by
        if interrupt is not None and run.interrupts[interrupt] <= now:
            was_raised = runner.interrupt(run, interrupt)
            run.interrupts[interrupt] = math.inf if was_raised else now + _AGAIN
        if run.kill_at <= now:
            run.kill_at = math.inf
            self._on_stuck(runner, run)
        return min(run.limit_at, run.raise_at, run.kill_at)

"""A clock that moves only when it is told."""

from __future__ import annotations

import threading
from datetime import timedelta

from ..clock import Clock
from ..config import milliseconds as in_milliseconds


class ManualClock(Clock):
    """Time for a test: nothing passes until :meth:`advance`, then all of it at once.

    What waits on this clock wakes up when its time has come, so that a test of an hour's
    delay takes no longer than the code in it.

    :param now: where the wall clock stands at first, milliseconds since the epoch.
    """

    def __init__(self, now: int = 1_700_000_000_000) -> None:
        self._lock = threading.Lock()
        self._elapsed = 0
        self._wall = now
        self._waiting: dict[int, threading.Condition] = {}
        # A thread that is about to wait has read the clock before it took its decision. Its
        # time counts from there: counted from the call of wait(), an advance between the
        # two would be missed, and with it the end of the wait.
        self._last_read = threading.local()

    def now(self) -> int:
        """Wall time: milliseconds since the Unix epoch."""
        with self._lock:
            self._last_read.at = self._elapsed
            return self._wall

    def monotonic(self) -> float:
        """Milliseconds that this clock was advanced so far, and a thousand."""
        # Not from 0, which is also the start of a clock that was never read.
        with self._lock:
            self._last_read.at = self._elapsed
            return float(1000 + self._elapsed)

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Wait on a held condition until it is notified or the clock was advanced.

        :param timeout: milliseconds since this thread last read the clock, or waited.
        :return: False when the time ran out first.
        """
        me = threading.get_ident()
        with self._lock:
            until = None
            if timeout is not None:
                until = getattr(self._last_read, "at", self._elapsed) + timeout
            if until is None or self._elapsed < until:
                self._waiting[me] = condition
        try:
            if me in self._waiting:
                condition.wait()
        finally:
            with self._lock:
                self._waiting.pop(me, None)
                self._last_read.at = self._elapsed
                in_time = until is None or self._elapsed < until
        return in_time

    def advance(self, milliseconds: int | timedelta) -> None:
        """Let time pass, and wake what waits on this clock.

        :raises ValueError: the time is negative; :meth:`step` moves the wall clock back.
        """
        passed = in_milliseconds(milliseconds)
        if passed < 0:
            raise ValueError(f"time does not run backwards, got {passed} ms")
        with self._lock:
            self._elapsed += passed
            self._wall += passed
            waiting = list(self._waiting.values())
        for condition in waiting:
            with condition:
                condition.notify_all()

    def step(self, milliseconds: int | timedelta) -> None:
        """Set the wall clock forward, or back, as an administrator would: no time passes."""
        with self._lock:
            self._wall += in_milliseconds(milliseconds)

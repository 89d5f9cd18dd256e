"""Clocks that a test moves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import ClassVar

from ..clock import Clock
from ..config import milliseconds as in_milliseconds


class MovableClock(Clock):
    """Time that begins as the machine's and then stands still until :meth:`advance`.

    While a thread waits on it, it goes on: a wait for something that does not happen does
    not wait for ever. What waits wakes up when its time has come, so that a test of an hour's
    delay takes no longer than the code in it.
    """

    #: Whether time passes by itself at all.
    _goes_on: ClassVar[bool] = True

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wall: float = super().now()
        self._stepped = 0
        # Whole milliseconds, to which others are added without a rounding error.
        self._monotonic = float(int(super().monotonic()))
        # How many let it go on, and since when, in the machine's time.
        self._runners = 0
        self._runs_since = 0.0
        self._waiting: dict[int, threading.Condition] = {}
        # A thread that is about to wait has read the clock before it took its decision. Its
        # time counts from there: counted from the call of wait(), an advance between the
        # two would be missed, and with it the end of the wait.
        self._last_read = threading.local()

    def now(self) -> int:
        """Wall time: milliseconds since the Unix epoch."""
        with self._lock:
            self._last_read.at = self._read()
            return int(self._wall + self._passed())

    def monotonic(self) -> float:
        """Milliseconds of a clock that no one sets, with all that it was advanced."""
        with self._lock:
            read = self._last_read.at = self._read()
            return read

    def server_time(self, time: int) -> int:
        """What the clock would show if it had not been moved, whatever a server says."""
        with self._lock:
            return int(self._wall - self._stepped + self._passed())

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Wait on a held condition until it is notified or the clock was advanced.

        :param timeout: milliseconds since this thread last read the clock, or waited.
        :return: False when the time ran out first.
        """
        me = threading.get_ident()
        with self._lock:
            now = self._read()
            until = None if timeout is None else getattr(self._last_read, "at", now) + timeout
            if until is None or now < until:
                self._waiting[me] = condition
        try:
            if me in self._waiting:
                with self.running():
                    seconds = None if until is None else (until - now) / 1000
                    condition.wait(seconds if self._goes_on else None)
        finally:
            with self._lock:
                self._waiting.pop(me, None)
                now = self._last_read.at = self._read()
                in_time = until is None or now < until
        return in_time

    def advance(self, milliseconds: int | timedelta) -> None:
        """Let time pass, and wake what waits on this clock.

        :raises ValueError: the time is negative; :meth:`step` moves the wall clock back.
        """
        passed = in_milliseconds(milliseconds)
        if passed < 0:
            raise ValueError(f"time does not run backwards, got {passed} ms")
        with self._lock:
            self._monotonic += passed
            self._wall += passed
            waiting = list(self._waiting.values())
        for condition in waiting:
            with condition:
                condition.notify_all()

    def step(self, milliseconds: int | timedelta) -> None:
        """Set the wall clock forward, or back, as an administrator would: no time passes."""
        with self._lock:
            self._wall += in_milliseconds(milliseconds)
            self._stepped += in_milliseconds(milliseconds)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let the time go on as the machine's does, for the length of a block."""
        with self._lock:
            if self._runners == 0:
                self._runs_since = super().monotonic()
            self._runners += 1
        try:
            yield
        finally:
            with self._lock:
                passed = self._passed()
                self._runners -= 1
                if self._runners == 0:
                    self._monotonic += passed
                    self._wall += passed

    def _read(self) -> float:
        return self._monotonic + self._passed()

    def _passed(self) -> float:
        """What has passed by itself since it began to go on."""
        if self._runners == 0 or not self._goes_on:
            return 0.0
        return super().monotonic() - self._runs_since


class ManualClock(MovableClock):
    """A clock that only moves when a test moves it, also while a thread waits.

    For tests of the waiting itself. A ``get_result(block=True)`` of a job that does not run
    waits for ever.

    :param now: where the wall clock stands at first, milliseconds since the epoch.
    """

    _goes_on = False

    def __init__(self, now: int = 1_700_000_000_000) -> None:
        super().__init__()
        self._wall = now
        # Not from 0, which is also the start of a clock that was never read.
        self._monotonic = 1000.0

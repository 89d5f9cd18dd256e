"""Measures with the monotonic clock for how long values of other processes have not changed."""

from __future__ import annotations

import threading
from collections.abc import Collection

from ...clock import Clock


class LeaseAges:
    """For each name, the time since which this process has seen the same value.

    A worker writes a new value with each renewal of its lease. For a reader, the lease has
    expired if the reader has seen the same value for the length of one lease. This uses only
    the reader's monotonic clock, because the wall clocks of the server and of the worker may be
    set. A new reader waits as if each worker had renewed its lease when the reader first saw
    it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[bytes, float]] = {}

    def note(self, name: str, value: bytes) -> float:
        """Record the present value for a name.

        :return: for how many milliseconds it has been the same.
        """
        now = self._clock.monotonic()
        with self._lock:
            known, since = self._seen.get(name, (b"", now))
            if known != value:
                since = now
                self._seen[name] = (value, since)
        return now - since

    def last(self, name: str) -> tuple[bytes, float]:
        """Return the last value for a name, and for how many milliseconds it has been the same.

        :return: an empty value if none was seen.
        """
        now = self._clock.monotonic()
        value, since = self._seen.get(name, (b"", now))
        return value, now - since

    def forget_others(self, names: Collection[str]) -> None:
        """Forget all names except these."""
        with self._lock:
            self._seen = {name: self._seen[name] for name in self._seen if name in names}

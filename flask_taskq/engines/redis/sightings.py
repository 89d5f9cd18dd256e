"""How long a value has been the same, by the monotonic clock."""

from __future__ import annotations

import threading
from collections.abc import Collection

from ...clock import Clock


class Sightings:
    """Since when this process has seen the same value under a name.

    A worker writes another value with each renewal of its lease, and its lease is over for
    a reader that has seen the same value for one lease. Only the reader's monotonic
    clock counts: the server's may be set, as the worker's may. A reader that is new waits as
    if each worker had renewed its lease when it was first seen.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[bytes, float]] = {}

    def note(self, name: str, value: bytes) -> float:
        """This is the present value.

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
        """The last value, and for how many milliseconds it has been the same.

        :return: an empty value if nothing was seen.
        """
        now = self._clock.monotonic()
        value, since = self._seen.get(name, (b"", now))
        return value, now - since

    def forget_others(self, names: Collection[str]) -> None:
        """Forget all names except these."""
        with self._lock:
            self._seen = {name: self._seen[name] for name in self._seen if name in names}

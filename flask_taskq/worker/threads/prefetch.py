"""The deliveries that a worker holds, and how many more it asks for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection
from collections.abc import Iterable
from typing import Final

from ...clock import Clock
from ...jobs.delivery import Delivery

#: A worker asks for as many jobs as it finished in this time (milliseconds) ...
_WINDOW: Final = 30
#: ... but for no more than this.
_MAX_PREFETCH: Final = 256


class Prefetch:
    """The deliveries that a worker holds: fetched, and not settled yet.

    Of slow jobs it asks for as many as can start at once, so that none waits here while another
    process is free. Of fast jobs it asks for as many as will end within milliseconds, so that
    few calls of the engine are needed.

    :param threads: how many jobs can run at the same time.
    """

    def __init__(self, threads: int, clock: Clock) -> None:
        #: The number of fetches that have returned, and of jobs that were fetched.
        self.answers = 0
        self.taken = 0
        self._threads = threads
        self._clock = clock
        # The fetcher and the settler both write here, under this lock.
        self._lock = threading.Lock()
        self._held: dict[str, tuple[Delivery, float]] = {}  # and since when
        self._asked = 0  # for how many the fetcher is waiting
        self._aside = 0  # how many of those that are held need no thread
        self._finished: deque[tuple[float, int]] = deque()  # when, how many

    def __len__(self) -> int:
        return len(self._held)

    def has_waited(self, milliseconds: int, besides: Collection[str]) -> bool:
        """Whether a delivery was held for so long, not counting these jobs."""
        since = self._clock.monotonic() - milliseconds
        with self._lock:
            return any(
                at < since and delivery.id not in besides
                for delivery, at in self._held.values()
            )

    def ask(self) -> int:
        """The fetcher is about to fetch.

        :return: how many jobs to ask for.
        """
        with self._lock:
            self._asked = 0
            self._asked = self._demand(len(self._held))
            return self._asked

    def answered(self) -> None:
        """The fetch has returned, and its deliveries are counted."""
        with self._lock:
            self._asked = 0
            self.answers += 1

    def ask_along(self, finished: int, settled: int) -> int:
        """The settler is about to settle, and can fetch with the same call.

        :param finished: how many jobs have ended.
        :param settled: how many it settles, those that are released included.
        :return: how many jobs to ask for.
        """
        now = self._clock.monotonic()
        with self._lock:
            self._finished.append((now, finished))
            while self._finished[0][0] < now - _WINDOW:
                self._finished.popleft()
            return self._demand(len(self._held) - settled)

    def is_short(self) -> bool:
        """Whether more jobs are wanted than are held and asked for."""
        with self._lock:
            return self._demand(len(self._held)) > 0

    def _demand(self, held: int) -> int:
        since = self._clock.monotonic() - _WINDOW
        lately = sum(count for at, count in self._finished if at > since)
        target = min(max(self._threads, lately), _MAX_PREFETCH)
        return max(0, target - (held - self._aside) - self._asked)

    def set_aside(self, difference: int) -> None:
        """Count more, or fewer, of the held jobs as running without a thread."""
        with self._lock:
            self._aside += difference

    def take_in(self, deliveries: Collection[Delivery]) -> None:
        """These were fetched."""
        now = self._clock.monotonic()
        with self._lock:
            self.taken += len(deliveries)
            for delivery in deliveries:
                self._held[delivery.id] = (delivery, now)

    def let_go(self, deliveries: Iterable[Delivery]) -> None:
        """These were settled."""
        with self._lock:
            for delivery in deliveries:
                # Not by the id alone: the job may be here again, under a newer claim.
                held = self._held.get(delivery.id)
                if held is not None and held[0] is delivery:
                    del self._held[delivery.id]

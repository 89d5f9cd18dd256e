"""Time, as an argument.

Everything that asks for the time asks a :class:`Clock` that it was given, so that a test
can bring one that it moves by hand.
"""

from __future__ import annotations

import threading
import time
from typing import Final

#: The last moment that can be written as a date, in milliseconds since the epoch: the end of
#: the year 9999.
END_OF_TIME: Final = 253_402_300_799_999

#: The longest duration, in milliseconds: 6,000 years. Added to the present it is a moment
#: before :data:`END_OF_TIME`.
LONGEST: Final = 6_000 * 365 * 24 * 3600 * 1000


class Clock:
    """The machine's clocks. All times are milliseconds."""

    def now(self) -> int:
        """Wall time: milliseconds since the Unix epoch. For what people and records see."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Milliseconds of a clock that no one sets, shared by all processes of this machine.

        Leases are measured with it, so that a step of the wall clock neither ends nor
        prolongs one.
        """
        return time.monotonic_ns() / 1_000_000

    def server_time(self, time: int) -> int:
        """What time it is for an engine whose server says that it is ``time``.

        Machines that share a server agree on its time. A clock of a test brings its own.
        """
        return time

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Wait on a held condition for at most ``timeout`` milliseconds.

        :return: False when the time ran out first.
        """
        if timeout is not None:
            timeout = min(timeout / 1000, threading.TIMEOUT_MAX)
        return condition.wait(timeout)

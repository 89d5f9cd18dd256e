"""Time, as an argument.

Everything that asks for the time asks a :class:`Clock` that it was given, so that a test
can bring one that it moves by hand.
"""

from __future__ import annotations

import threading
import time


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

    def adopt(self, time: int) -> int:
        """What time it is for an engine whose server says that it is ``time``.

        Machines that share a server agree on its time. A clock of a test brings its own.
        """
        return time

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Wait on a held condition for at most ``timeout`` milliseconds.

        :return: False when the time ran out first.
        """
        return condition.wait(None if timeout is None else timeout / 1000)

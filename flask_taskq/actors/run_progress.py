"""The progress and the log lines that a run reports."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import Any
from typing import Final
from typing import NamedTuple

from ..jobs.record import LEVELS
from ..jobs.record import LogLine
from ..jobs.record import Progress
from ..jobs.record_limits import KEPT_LOG_LINES
from ..jobs.record_limits import LINE_TEXT

_MAX_FLOAT: Final = sys.float_info.max


class NewProgress(NamedTuple):
    """What is new since it was last taken.

    :param progress: None if it is still the same.
    """

    progress: Progress | None
    logs: tuple[LogLine, ...]


class RunProgress:
    """The progress and the log lines of one run that were not reported yet.

    Threads of the job write while threads of the worker take. Each writes or takes in a
    single step of the interpreter, so that neither waits for the other; and no lock can be
    left behind by an exception that is raised into the job.
    """

    __slots__ = ("_attempt", "_lines", "_now", "_progress", "_taken")

    def __init__(self, now: Callable[[], int], attempt: int) -> None:
        self._now = now
        self._attempt = attempt
        self._progress: tuple[float, float | None, str | None] | None = None
        self._taken: object = None
        self._lines: deque[LogLine] = deque(maxlen=KEPT_LOG_LINES)

    def progress(self, current: float, total: float | None, message: str | None) -> None:
        """See :meth:`.Run.progress`."""
        # Called a million times it should take well under a second: what can wait until
        # somebody takes it does, the time included.
        if type(current) is not int and type(current) is not float:
            current = _number("current", current)
        if not -_MAX_FLOAT <= current <= _MAX_FLOAT:
            raise _out_of_range("current", current)
        if total is not None:
            if type(total) is not int and type(total) is not float:
                total = _number("total", total)
            if not 0 <= total <= _MAX_FLOAT:
                raise _out_of_range("total", total)
        if message is not None and not isinstance(message, str):
            raise TypeError(
                f"progress(): message is a {type(message).__name__}; it is a str, or None"
            )
        self._progress = (current, total, message)

    def log(self, text: str, level: str) -> None:
        """See :meth:`.Run.log`."""
        if not isinstance(text, str):
            raise TypeError(f"log(): text is a {type(text).__name__}; it is a str")
        if level not in LEVELS:
            raise ValueError(f"log(): level is {level!r}; it is one of {', '.join(LEVELS)}")
        # One character too many shows that something was cut.
        text = text[: LINE_TEXT + 1]
        self._lines.append(LogLine(self._now(), level, text, self._attempt))

    def take(self) -> NewProgress | None:
        """What is new since the last call; None if nothing is."""
        progress, latest = None, self._progress
        if latest is not None and latest is not self._taken:
            self._taken = latest
            current, total, message = latest
            total = None if total is None else float(total)
            progress = Progress(float(current), total, message, self._now())
        lines: list[LogLine] = []
        try:
            # A job that logs faster than this can take must not keep it here.
            while len(lines) < KEPT_LOG_LINES:
                lines.append(self._lines.popleft())
        except IndexError:
            pass
        return NewProgress(progress, tuple(lines)) if progress or lines else None


def _number(name: str, value: Any) -> float:
    # Numbers of other kinds, such as NumPy's, Decimal and Fraction.
    try:
        if not isinstance(value, (bool, str, bytes, bytearray)):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise TypeError(f"progress(): {name} is a {type(value).__name__}; it is a number")


def _out_of_range(name: str, value: float) -> ValueError:
    least = " from 0" if name == "total" else ""
    try:
        shown = repr(float(value))
    except OverflowError:  # an int of more digits than Python may be willing to print
        shown = "too large"
    return ValueError(f"progress(): {name} is {shown}; it is a finite number{least}")

"""Back-off of a worker's threads while the engine fails."""

from __future__ import annotations

import threading
from typing import Final

from ...clock import Clock
from ...errors import BrokerConnectionError
from ...errors import BrokerError
from ...loggers import get_logger

logger = get_logger(__name__)


class Backoff:
    """Waits longer after each failure, up to a few seconds.

    :param stop: ends a wait at once.
    :param clock: the time.
    """

    _MIN: Final = 0.05
    _MAX: Final = 5.0

    def __init__(self, stop: threading.Event, clock: Clock) -> None:
        self._stop = stop
        self._clock = clock
        #: When the engine failed first and last, in milliseconds of the monotonic clock; None
        #: after a success.
        self.failing: tuple[float, float] | None = None
        self._delay = self._MIN

    def wait(self, error: Exception) -> None:
        """Wait before the next try, after this error."""
        if isinstance(error, (BrokerConnectionError, OSError)):
            now = self._clock.monotonic()
            self.failing = (now if self.failing is None else self.failing[0], now)
        self._stop.wait(self._delay)
        self._delay = min(self._delay * 2, self._MAX)

    def reset(self) -> None:
        """A try has succeeded."""
        self.failing = None
        self._delay = self._MIN


def log_failure(what: str, error: Exception) -> None:
    """Log that a call of the engine failed and will be tried again."""
    if isinstance(error, BrokerError):
        logger.error("cannot %s, will try again: %s", what, error)
    else:
        logger.error("cannot %s, will try again", what, exc_info=error)

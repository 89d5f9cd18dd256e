"""Moves the records of jobs that have ended to where ``TASKQ_RESULTS_URL`` says."""

from __future__ import annotations

import threading
from typing import Final

from ..clock import Clock
from ..config import Settings
from ..engines import make_engine
from ..engines.base import HOUSEKEEPING_LIMIT
from ..engines.split import SplitEngine
from ..errors import TaskQError
from ..loggers import get_logger

logger = get_logger(__name__)

#: How often, in seconds, it is looked for records that can move, and how soon the rest
#: moves, when there are many: whoever sends and runs jobs gets a turn in between.
_MOVE: Final = 1.0
_MOVE_MORE: Final = 0.05

#: How often records past their retention are removed where they have moved to, in
#: milliseconds. The lease keeper does that in the broker.
_PRUNE: Final = 60_000


class Mover:
    """A thread of a supervisor, apart from that of leases: a results store that does not
    answer must not cost one.

    :param engine: an engine of its own, which it closes at its end.
    """

    def __init__(self, engine: SplitEngine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._prune_at = clock.monotonic()
        self._is_in_trouble = False
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, name="taskq-mover", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def end(self) -> None:
        """End soon. Does not wait for that; what has not moved is moved by another one."""
        self._enough.set()

    def _run(self) -> None:
        while not self._enough.wait(_MOVE):
            try:
                self._move()
            except Exception as error:
                self._note_trouble(error)
        self._engine.close()

    def _move(self) -> None:
        while self._engine.move() and not self._enough.wait(_MOVE_MORE):
            pass
        if self._clock.monotonic() >= self._prune_at:
            while self._engine.results.jobs.prune() >= HOUSEKEEPING_LIMIT:
                pass
            self._prune_at = self._clock.monotonic() + _PRUNE
        if self._is_in_trouble:
            self._is_in_trouble = False
            logger.info("records of jobs that have ended move again")

    def _note_trouble(self, error: Exception) -> None:
        if self._is_in_trouble:
            return  # once, not with every try
        self._is_in_trouble = True
        logger.error(
            "records of jobs that have ended stay in the broker, and move when that is"
            " possible again: %s",
            error,
            exc_info=None if isinstance(error, TaskQError) else error,
        )


def start_mover(settings: Settings, clock: Clock) -> Mover | None:
    """A mover for these settings, started; None if records stay where they are."""
    engine = make_engine(settings, clock)
    if not isinstance(engine, SplitEngine):
        return None
    mover = Mover(engine, clock)
    mover.start()
    return mover

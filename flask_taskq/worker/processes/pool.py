"""Which child process is in which slot, and when the next one is due.

The pool starts and stops no process. The supervisor reports what happened to children, and
asks what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ...clock import Clock
from ...loggers import get_logger
from .spawn import Child

logger = get_logger(__name__)

#: A child that dies within this time after it was ready (ms) counts as a failed start.
_EARLY_DEATH: Final = 5_000
_MIN_BACKOFF: Final = 1_000
_MAX_BACKOFF: Final = 60_000


class ProcessSlot:
    """A slot for one child process. During a replacement it has two.

    :param clock: the time.
    :param restarts: whether a child that served and died is replaced.
    """

    def __init__(self, clock: Clock, *, restarts: bool = True) -> None:
        self._clock = clock
        self._restarts = restarts
        #: The child that fetches jobs.
        self.serving: Child | None = None
        #: A child that is not ready yet. When it is, it replaces the serving one.
        self.starting: Child | None = None
        #: Children that were replaced, and end when their jobs have ended.
        self.retiring: list[Child] = []
        # When the next child is due, and how many starts in a row have failed.
        self._start_at: float | None = None
        self._failures = 0
        self._is_closed = False

    @property
    def children(self) -> list[Child]:
        """All children in this slot."""
        children = (self.serving, self.starting, *self.retiring)
        return [child for child in children if child is not None]

    @property
    def due_at(self) -> float | None:
        """When a child is to be started; None if none is."""
        if self.starting is not None or self._is_closed:
            return None
        # The successor waits until the previous replacement is complete. Otherwise long jobs
        # could let large or old processes accumulate.
        if self.serving is not None and self.retiring:
            return None
        return self._start_at

    @property
    def is_empty(self) -> bool:
        """Whether no child serves, starts, or is due."""
        return self.serving is None and self.starting is None and self._start_at is None

    def start_now(self) -> None:
        """A child is due now, whatever failed before."""
        self._failures = 0
        self._start_at = self._clock.monotonic()

    def start_later(self, *, failed: bool) -> None:
        """A child is due after a pause, which doubles with each failure in a row.

        :param failed: the last child did not become ready. If it did, a bad job may have
            killed it, and the first replacement has no pause.
        """
        self._failures += 1
        steps = self._failures if failed else self._failures - 1
        delay = min(_MIN_BACKOFF * 2 ** (steps - 1), _MAX_BACKOFF) if steps else 0
        self._start_at = self._clock.monotonic() + delay
        if delay and not self._is_closed:
            logger.warning("starting another process in %d ms", delay)

    def skip_pause(self) -> None:
        """If a child is due later, it is due now."""
        if self._start_at is not None:
            self.start_now()

    def close(self) -> None:
        """No child is started here any more."""
        self._is_closed = True

    def add_starting(self, child: Child) -> None:
        """This child was started."""
        self._start_at = None
        self.starting = child

    def take_over(self, child: Child) -> Child | None:
        """This child is ready and serves from now on.

        :return: the child that it replaces.
        """
        replaced = self.serving
        self.serving, self.starting = child, None
        if replaced is not None:
            self.retiring.append(replaced)
        return replaced

    def replace(self, *, soon: bool) -> None:
        """The serving child asked to be replaced.

        :param soon: its successor will ask, too, before it has done much.
        """
        if self.starting is None and soon:
            self.start_later(failed=False)
        elif self.starting is None:
            self.start_now()

    def retire(self, child: Child) -> None:
        """This child cannot serve any more, though no successor is ready."""
        if child is self.serving:
            self._remove_serving(child)
            self.retiring.append(child)

    def remove(self, child: Child) -> None:
        """This child has ended."""
        if child in self.retiring:
            self.retiring.remove(child)
        elif child is self.starting:
            self.starting = None
            # A serving child that does not ask to be replaced needs no successor.
            if self.serving is None or self.serving.wants_replacement:
                self.start_later(failed=child.ready_at is None)
        else:
            self._remove_serving(child)

    def _remove_serving(self, child: Child) -> None:
        self.serving = None
        # A child that is starting takes its place.
        if self._restarts and self.starting is None:
            if self._clock.monotonic() - (child.ready_at or 0) >= _EARLY_DEATH:
                self.start_now()
            else:
                self.start_later(failed=False)


class ProcessPool:
    """The slots of a supervisor.

    :param processes: how many children serve at the same time.
    :param clock: the time.
    """

    def __init__(self, processes: int, clock: Clock) -> None:
        self.slots = [ProcessSlot(clock) for _ in range(processes)]
        #: For the child that runs isolated jobs. It ends by itself.
        self.alone = ProcessSlot(clock, restarts=False)
        self._clock = clock
        # The number of the last reload. Each child has the number at its start.
        self.reload = 0
        self._is_reloading = False

    @property
    def children(self) -> list[Child]:
        """All children."""
        return [child for slot in self._all_slots for child in slot.children]

    @property
    def _all_slots(self) -> Sequence[ProcessSlot]:
        return (*self.slots, self.alone)

    def slot_of(self, child: Child) -> ProcessSlot:
        """The slot of this child."""
        return next(slot for slot in self._all_slots if child in slot.children)

    def next_due(self) -> float | None:
        """When the next child is due."""
        times = [slot.due_at for slot in self._all_slots]
        return min((at for at in times if at is not None), default=None)

    def due(self) -> list[ProcessSlot]:
        """The slots in which a child is due now."""
        now = self._clock.monotonic()
        times = [(slot, slot.due_at) for slot in self._all_slots]
        return [slot for slot, at in times if at is not None and at <= now]

    def close(self) -> None:
        """No child is started any more."""
        self._is_reloading = False
        for slot in self._all_slots:
            slot.close()

    # Reloading

    def begin_reload(self) -> None:
        """Replace all children, one slot after the other.

        During another reload, the children that it has started are replaced once more.
        """
        self.reload += 1
        self._is_reloading = True
        for slot in self.slots:
            # The new code may correct what made starts fail.
            slot.skip_pause()

    def go_on_reloading(self) -> None:
        """Start the next new child, if it is time for that.

        One at a time: each successor is a process more than the machine was planned for.
        """
        if not self._is_reloading or any(map(self._is_changing, self.slots)):
            return
        old = [slot for slot in self.slots if self._is_old(slot.serving)]
        if old and old[0].due_at is None:
            old[0].start_now()
        elif not old:
            self._is_reloading = False
            logger.info("reloaded: all processes were replaced")

    def _is_changing(self, slot: ProcessSlot) -> bool:
        return slot.starting is not None or any(map(self._is_old, slot.retiring))

    def _is_old(self, child: Child | None) -> bool:
        return child is not None and child.reload < self.reload

    def is_tried_by(self, child: Child) -> bool:
        """Whether a reload continues only if this child becomes ready, since it replaces one
        that serves."""
        slot = self.slot_of(child)
        is_successor = child is slot.starting and slot.serving is not None
        return self._is_reloading and is_successor and not self._is_old(child)

    def stop_reload(self) -> None:
        """Keep the children that were not replaced yet."""
        self._is_reloading = False

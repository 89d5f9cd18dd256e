"""The children of a supervisor, each in its place, and when the next one is due there.

It starts, hears and kills nobody: it is told what became of children, and says what is
to be done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ...clock import Clock
from ...loggers import get_logger
from .spawn import Child

logger = get_logger(__name__)

#: A child that dies sooner than this after it was ready (ms) counts as dying at the start.
_SETTLING_IN: Final = 5_000
_MIN_BACKOFF: Final = 1_000
_MAX_BACKOFF: Final = 60_000


class Place:
    """Where one child serves. While it is being relieved, there are two.

    :param clock: the time.
    :param is_kept: whether a child that has served and ended is replaced.
    """

    def __init__(self, clock: Clock, *, is_kept: bool = True) -> None:
        self._clock = clock
        self._is_kept = is_kept
        #: Fetches jobs.
        self.serving: Child | None = None
        #: Is not ready yet. When it is, it relieves the one that serves.
        self.starting: Child | None = None
        #: Were relieved, and end when their jobs have.
        self.leaving: list[Child] = []
        # When the next child is due here, and how many in a row died at the start.
        self._start_at: float | None = None
        self._failures = 0
        self._is_closed = False

    @property
    def children(self) -> list[Child]:
        """All that there are."""
        here = (self.serving, self.starting, *self.leaving)
        return [child for child in here if child is not None]

    @property
    def due_at(self) -> float | None:
        """When a child is to be started here."""
        if self.starting is not None or self._is_closed:
            return None
        # A successor waits until the one before is complete: jobs that take long must not let
        # processes pile up that are all large, or all old.
        if self.serving is not None and self.leaving:
            return None
        return self._start_at

    @property
    def is_empty(self) -> bool:
        """Whether nobody is here or expected, but for those who leave."""
        return self.serving is None and self.starting is None and self._start_at is None

    def call(self) -> None:
        """A child is wanted here now, whatever has been before."""
        self._failures = 0
        self._start_at = self._clock.monotonic()

    def call_later(self, *, failed: bool) -> None:
        """A child is wanted here, after a pause that grows with each one that did no good.

        :param failed: it was not even ready. One that was may have met a bad job, and only a
            second one in a row is waited for.
        """
        self._failures += 1
        steps = self._failures if failed else self._failures - 1
        delay = min(_MIN_BACKOFF * 2 ** (steps - 1), _MAX_BACKOFF) if steps else 0
        self._start_at = self._clock.monotonic() + delay
        if delay and not self._is_closed:
            logger.warning("starting another process in %d ms", delay)

    def hasten(self) -> None:
        """If a child is wanted here later, it is wanted now."""
        if self._start_at is not None:
            self.call()

    def close(self) -> None:
        """Nobody is to be started here any more."""
        self._is_closed = True

    def enter(self, child: Child) -> None:
        """This child was started here."""
        self._start_at = None
        self.starting = child

    def settle(self, child: Child) -> Child | None:
        """This child is ready.

        :return: whom it relieves.
        """
        relieved = self.serving
        self.serving, self.starting = child, None
        if relieved is not None:
            self.leaving.append(relieved)
        return relieved

    def relieve(self, *, soon: bool) -> None:
        """The child that serves here is worn.

        :param soon: another one will be, too, before it has done much.
        """
        if self.starting is None and soon:
            self.call_later(failed=False)
        elif self.starting is None:
            self.call()

    def expel(self, child: Child) -> None:
        """This child cannot serve any more, and leaves though nobody has relieved it."""
        if child is self.serving:
            self._lose_serving(child)
            self.leaving.append(child)

    def bury(self, child: Child) -> None:
        """This child has ended."""
        if child in self.leaving:
            self.leaving.remove(child)
        elif child is self.starting:
            self.starting = None
            # One that goes on as if nothing had been asked of it needs none.
            if self.serving is None or self.serving.is_worn:
                self.call_later(failed=child.ready_at is None)
        else:
            self._lose_serving(child)

    def _lose_serving(self, child: Child) -> None:
        self.serving = None
        # Whoever is starting here will do.
        if self._is_kept and self.starting is None:
            if self._clock.monotonic() - (child.ready_at or 0) >= _SETTLING_IN:
                self.call()
            else:
                self.call_later(failed=False)


class Crew:
    """All children of a supervisor.

    :param processes: how many of them are to serve.
    :param clock: the time.
    """

    def __init__(self, processes: int, clock: Clock) -> None:
        self.places = [Place(clock) for _ in range(processes)]
        #: For the child that runs jobs which must run alone; it ends by itself.
        self.alone = Place(clock, is_kept=False)
        self._clock = clock
        # The number of the last reload, which each child bears that was started since.
        self.reload = 0
        self._is_reloading = False

    @property
    def children(self) -> list[Child]:
        """All that there are."""
        return [child for place in self._all_places for child in place.children]

    @property
    def _all_places(self) -> Sequence[Place]:
        return (*self.places, self.alone)

    def place_of(self, child: Child) -> Place:
        """Where this child is."""
        return next(place for place in self._all_places if child in place.children)

    def next_due(self) -> float | None:
        """When a child is to be started next."""
        times = [place.due_at for place in self._all_places]
        return min((at for at in times if at is not None), default=None)

    def due(self) -> list[Place]:
        """Where a child is to be started now."""
        now = self._clock.monotonic()
        times = [(place, place.due_at) for place in self._all_places]
        return [place for place, at in times if at is not None and at <= now]

    def close(self) -> None:
        """Nobody is to be started any more."""
        self._is_reloading = False
        for place in self._all_places:
            place.close()

    # Reloading

    def begin_reload(self) -> None:
        """Whoever is here now is to be replaced, one place after the other.

        During another reload, those who are new by it are replaced once more.
        """
        self.reload += 1
        self._is_reloading = True
        for place in self.places:
            # What a start is put off for may be what the reload is to mend.
            place.hasten()

    def go_on_reloading(self) -> None:
        """Call for the next new child, if it is time for that.

        One at a time: each successor is a process more than the machine was planned for.
        """
        if not self._is_reloading or any(map(self._is_changing, self.places)):
            return
        old = [place for place in self.places if self._is_old(place.serving)]
        if old and old[0].due_at is None:
            old[0].call()
        elif not old:
            self._is_reloading = False
            logger.info("reloaded: no process is left that was there before")

    def _is_changing(self, place: Place) -> bool:
        return place.starting is not None or any(map(self._is_old, place.leaving))

    def _is_old(self, child: Child | None) -> bool:
        return child is not None and child.reload < self.reload

    def is_tried_by(self, child: Child) -> bool:
        """Whether a reload depends on this child becoming ready: another one serves there."""
        place = self.place_of(child)
        is_successor = child is place.starting and place.serving is not None
        return self._is_reloading and is_successor and not self._is_old(child)

    def give_up_reload(self) -> None:
        """The others stay as they are."""
        self._is_reloading = False

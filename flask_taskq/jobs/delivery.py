"""What goes between an engine and those who send and run jobs."""

from __future__ import annotations

from typing import Any
from typing import ClassVar
from typing import Protocol

import msgspec

from ..clock import END_OF_TIME
from .record import JobError
from .record import LogLine
from .record import Progress
from .record import Status


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """An encoded message on its way into an engine, with what is needed to store it.

    The sender's clock may be wrong, so the engine adds the time.

    :param delay: how many milliseconds it must wait, from when it is stored; None for none.
    :param due_at: a moment before which it must not run, in milliseconds since the epoch by
        the engine's clock; None for none. Only one of the two is given.
    :param created_at: when it was sent, of one that is older than this call; by default, when
        it is stored.
    :param unique_key: while a job with this key is not over, no other one with it is stored.
    """

    id: str
    queue: str
    actor: str
    priority: int
    message: bytes
    delay: int | None = None
    due_at: int | None = None
    created_at: int | None = None
    max_attempts: int | None = None
    unique_key: str | None = None

    def waits_until(self, now: int) -> int | None:
        """The moment before which it must not run; None if it may run at once.

        :param now: the engine's time, in milliseconds since the epoch.
        """
        due_at = self.due_at if self.delay is None else min(now + self.delay, END_OF_TIME)
        return None if due_at is None or due_at <= now else due_at


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One handing-over of a job to a worker.

    ``worker`` and ``claim`` are the fencing token: an engine takes no settlement of a
    delivery whose token is no longer the record's.

    :param attempt: the number that this run has if it is charged, from 1.
    :param claim: how often the job has been handed over, this time included.
    :param created_at: when the job was sent, milliseconds since the epoch by the engine's
        clock.
    :param released_since: since when the job has been released before it ran,
        or None if this worker is the first to see it.
    :param releases: how often it has been released since then.
    :param handle: whatever the engine needs to find the job again.
    """

    id: str
    queue: str
    actor: str
    priority: int
    message: bytes
    worker: str
    attempt: int
    claim: int
    created_at: int
    crashes: int = 0
    released_since: int | None = None
    releases: int = 0
    handle: Any = None


class Line(Protocol):
    """What is to be logged of an outcome."""

    def log(self, outcome: Status, /) -> None:
        """Log it. :param outcome: the status that was stored."""


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """How a delivery ended. One of the classes below.

    All times in it are by the engine's clock: :meth:`Engine.now`.

    :param started_at: when the run began, milliseconds since the epoch; None if it did not.
    :param follow_ups: new jobs, which are stored in the same step, if this outcome is.
    :param progress: how far the run has come, if that is not stored yet.
    :param logs: lines of the run that are not stored yet.
    :param line: logged by the settler when the outcome is stored.
    """

    #: Whether the job would run again.
    runs_again: ClassVar[bool] = False
    #: Whether a run has ended in it, as hooks and counters see it.
    is_run: ClassVar[bool] = True

    delivery: Delivery
    started_at: int | None = None
    follow_ups: tuple[Envelope, ...] = ()
    progress: Progress | None = None
    logs: tuple[LogLine, ...] = ()
    line: Line | None = None


class Succeeded(Settlement, frozen=True, kw_only=True):
    """The actor returned. :param result: its encoded return value."""

    result: bytes


class Retried(Settlement, frozen=True, kw_only=True):
    """The run failed and is charged; another one follows at ``at`` (ms since the epoch)."""

    runs_again: ClassVar[bool] = True

    error: JobError
    at: int


class Failed(Settlement, frozen=True, kw_only=True):
    """The run failed and is charged, and none follows."""

    error: JobError


class Cancelled(Settlement, frozen=True, kw_only=True):
    """The run gave the job up and is charged; none follows, and it is no failure.

    :param error: why.
    """

    error: JobError


class Expired(Settlement, frozen=True, kw_only=True):
    """The job was too old to run: it is not charged, and it ends.

    :param error: how so.
    """

    error: JobError


class Released(Settlement, frozen=True, kw_only=True):
    """The job goes back uncharged: its worker stops, has lost it, or cannot run it.

    :param at: when it may run again, in milliseconds since the epoch; None queues it at once,
        in the place that it had. A time is for a run that has not begun: the engine counts
        how often and since when.
    :param reason: a word for programs, which the record shows while the job waits.
    """

    runs_again: ClassVar[bool] = True
    is_run: ClassVar[bool] = False

    at: int | None = None
    reason: str | None = None


class Snoozed(Settlement, frozen=True, kw_only=True):
    """The run asked for a later time; it is not charged.

    :param at: when the job runs again, in milliseconds since the epoch.
    """

    runs_again: ClassVar[bool] = True
    is_run: ClassVar[bool] = False

    at: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Progress and log lines of a run that has not ended.

    :param progress: how far it has come; None if that is stored already.
    :param logs: lines that are not stored yet.
    """

    delivery: Delivery
    progress: Progress | None = None
    logs: tuple[LogLine, ...] = ()

"""What is known of a job: its record, and the statuses of its life."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec


class Status(StrEnum):
    """Where a job is in its life."""

    SCHEDULED = "scheduled"  #: has a time before which it must not run
    QUEUED = "queued"  #: may be taken by a worker
    BLOCKED = "blocked"  #: waits for another job or for a slot
    RUNNING = "running"  #: a worker holds it under a lease
    SUCCEEDED = "succeeded"
    FAILED = "failed"  #: kept whole, with its last error, and can be requeued
    CANCELLED = "cancelled"
    EXPIRED = "expired"  #: was too old when its turn came

    @property
    def is_final(self) -> bool:
        """Whether the job's life is over."""
        return self in FINAL


FINAL: Final = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.EXPIRED})


class Lane(StrEnum):
    """Which of the two lines of a queue a job stands in."""

    ORDINARY = "ordinary"
    ALONE = "alone"  #: it may only run in a process that runs nothing else


class JobError(msgspec.Struct, frozen=True):
    """Why a run did not succeed, as text: nothing in it is ever imported or called.

    :param type: name of the exception's class.
    :param message: the exception's text.
    :param code: a word for programs: ``exception``, ``bad_arguments``, ``bad_result``,
        ``malformed``, ``unknown_actor`` or ``worker_lost``; of a job that was given up,
        ``cancelled`` or ``discarded``; of one that was too old to run, ``expired``.
    :param traceback: the traceback as text, without the values of variables.
    :param is_public: whether clients may see ``message``. The worker decides that, which has
        the exception; later only the name of its class is known.
    """

    type: str
    message: str
    code: str = "exception"
    traceback: str | None = None
    is_public: bool = False


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was charged and ended with an error. Times are milliseconds since the epoch.

    :param number: of the run, from 1.
    :param started_at: when it began; None if it did not come to the actor.
    :param error: its error; a long text in it is cut.
    """

    number: int
    started_at: int | None
    ended_at: int
    error: JobError


class Progress(msgspec.Struct, frozen=True):
    """How far a run has come, as its actor has said.

    :param current: in units of the actor's choice.
    :param total: what ``current`` is at the end; None if that is unknown.
    :param message: a few words for people.
    :param updated_at: when it was noted, milliseconds since the epoch.
    """

    current: float
    total: float | None
    message: str | None
    updated_at: int

    @property
    def fraction(self) -> float | None:
        """How much is done, from 0 to 1; None if that is unknown."""
        if not self.total:
            return None
        return min(max(self.current / self.total, 0.0), 1.0)


#: What the level of a log line may be.
LEVELS: Final = ("debug", "info", "warning", "error", "critical")


class LogLine(msgspec.Struct, frozen=True):
    """One line of a job's own log.

    :param at: when it was written, milliseconds since the epoch.
    :param level: one of :data:`LEVELS`.
    :param text: a long one is cut.
    :param attempt: the number of the run that wrote it.
    """

    at: int
    level: str
    text: str
    attempt: int


class JobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine knows of a job. Times are milliseconds since the epoch.

    :param attempt: number of the current or last charged run, 0 before the first. A run
        that ended in an outcome of the actor is charged; a crash, a give-back and a lost
        lease are not.
    :param max_attempts: how many charged runs it may have, None for no limit.
    :param crashes: runs that ended with the death of their process.
    :param suspects: times it was held by a worker that vanished, when no one knows
        whether it had started.
    :param scheduled_for: the time before which it must not run.
    :param started_at: when the current or last run was claimed or, once settled, begun.
    :param expires_at: when the record is removed, for a final one.
    :param status_reason: why it waits, a word for programs such as ``unknown_actor``.
    :param version: grows with every change of the record.
    :param message: the encoded message.
    :param result: the encoded result of a job that succeeded.
    :param attempts: the last runs that ended with an error, the oldest first. One that
        succeeded is not among them: it is the record's own ``attempt`` and times.
    :param progress: of the current or last run; None if it has reported none.
    :param logs: the last lines of the job's own log, over all runs, the oldest first.
    :param lane: the line of its queue that it stands in.
    :param claim: how often it was handed over to a worker.
    :param releases: how often it was released before it ran, since then.
    :param released_since: when it was first released, of these times.
    :param unique_key: no other job that is not over has the same.
    """

    id: str
    queue: str
    actor: str
    priority: int
    status: Status
    message: bytes
    created_at: int
    updated_at: int
    scheduled_for: int | None = None
    started_at: int | None = None
    finished_at: int | None = None
    expires_at: int | None = None
    attempt: int = 0
    max_attempts: int | None = None
    crashes: int = 0
    suspects: int = 0
    cancel_requested: bool = False
    status_reason: str | None = None
    result: bytes | None = None
    error: JobError | None = None
    attempts: tuple[Attempt, ...] = ()
    progress: Progress | None = None
    logs: tuple[LogLine, ...] = ()
    worker: str | None = None
    version: int = 1
    lane: Lane = Lane.ORDINARY
    claim: int = 0
    releases: int = 0
    released_since: int | None = None
    unique_key: str | None = None

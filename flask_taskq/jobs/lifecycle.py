"""What becomes of a job: which row of the table holds, and which values it brings.

What a run, a lost worker, a cancel or an operator asks for is compiled here into one
:class:`Change`. An engine applies it, in one atomic step, to a record whose status is the
source of its transition and whose holder has the token.
"""

from __future__ import annotations

from typing import Any
from typing import Final

import msgspec

from ..clock import END_OF_TIME
from ..config import Settings
from .delivery import Cancelled
from .delivery import Delivery
from .delivery import Envelope
from .delivery import Expired
from .delivery import Failed
from .delivery import Released
from .delivery import Report
from .delivery import Retried
from .delivery import Settlement
from .delivery import Snoozed
from .delivery import Succeeded
from .record import Attempt
from .record import JobError
from .record import JobRecord
from .record import Status
from .record_limits import add_attempt
from .record_limits import add_lines
from .record_limits import cut_progress
from .transitions import CANCEL
from .transitions import CLAIM
from .transitions import ENQUEUE
from .transitions import ENQUEUE_LATER
from .transitions import EXPIRE
from .transitions import FAIL
from .transitions import FAIL_LOST
from .transitions import GIVE_UP
from .transitions import ISOLATE
from .transitions import PROMOTE
from .transitions import RECLAIM
from .transitions import RELEASE
from .transitions import RELEASE_LATER
from .transitions import REQUEUE
from .transitions import RETRY
from .transitions import SNOOZE
from .transitions import STOP
from .transitions import STOP_LOST
from .transitions import STOP_UNCHARGED
from .transitions import SUCCEED
from .transitions import Transition

#: How often a job may be held by a worker that vanished with its whole host.
MAX_SUSPECTS: Final = 10

#: How long a job waits, in milliseconds, before it runs in a process of its own.
ISOLATION_DELAY: Final = 2_000

#: Why a job waits that was taken from a worker that is gone: its ``status_reason``.
WORKER_LOST: Final = "worker_lost"
#: Likewise, of one whose run asked for a later time.
SNOOZED: Final = "snoozed"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A transition, with a value for each field that it sets.

    :param transition: the row of the table.
    :param otherwise: the row that holds in its place if cancelling was asked for meanwhile,
        which only the engine's own step can know. It sets no field that the first does not.
    """

    transition: Transition
    otherwise: Transition | None = None
    scheduled_for: int | None = None
    status_reason: str | None = None
    started_at: int | None = None
    worker: str | None = None
    result: bytes | None = None
    error: JobError | None = None
    attempts: tuple[Attempt, ...] = ()
    crashes: int = 0
    suspects: int = 0
    cancel_requested: bool = True


class Retention(msgspec.Struct, frozen=True):
    """For how many milliseconds the record of a job that has ended is kept.

    :param failed: if it failed.
    :param other: if it did not.
    """

    failed: int
    other: int

    @classmethod
    def from_settings(cls, settings: Settings) -> Retention:
        """As an app's configuration says."""
        return cls(failed=settings.failed_ttl, other=settings.result_ttl)

    def expires_at(self, status: Status, now: int) -> int:
        """Until when the record of a job that ends now with this status is kept."""
        ttl = self.failed if status is Status.FAILED else self.other
        return min(now + ttl, END_OF_TIME)


# A job begins


def begin(envelope: Envelope, now: int) -> JobRecord:
    """The record of a new job."""
    due_at = envelope.waits_until(now)
    transition = ENQUEUE if due_at is None else ENQUEUE_LATER
    assert transition.target is not None
    return JobRecord(
        id=envelope.id,
        queue=envelope.queue,
        actor=envelope.actor,
        priority=envelope.priority,
        status=transition.target,
        message=envelope.message,
        created_at=now if envelope.created_at is None else envelope.created_at,
        updated_at=now,
        scheduled_for=due_at,
        max_attempts=envelope.max_attempts,
        unique_key=envelope.unique_key,
    )


def promote() -> Change:
    """Its time has come."""
    return Change(transition=PROMOTE)


def claim(worker: str, now: int) -> Change:
    """A worker takes it."""
    return Change(transition=CLAIM, worker=worker, started_at=now)


# A run ends


def settle(settlement: Settlement, attempts: tuple[Attempt, ...], now: int) -> Change:
    """What the end of a run asks for.

    :param attempts: those that the record has kept so far. The token is valid only as long as
        they are unchanged.
    """
    started_at = settlement.started_at
    match settlement:
        case Succeeded():
            return Change(transition=SUCCEED, result=settlement.result, started_at=started_at)
        case Failed() | Cancelled():
            return Change(
                transition=FAIL if isinstance(settlement, Failed) else GIVE_UP,
                started_at=started_at,
                error=settlement.error,
                attempts=add_attempt(attempts, settlement, now),
            )
        case Expired():
            return Change(transition=EXPIRE, error=settlement.error)
        case Retried():
            return Change(
                transition=RETRY,
                otherwise=STOP,
                scheduled_for=settlement.at,
                started_at=started_at,
                error=settlement.error,
                attempts=add_attempt(attempts, settlement, now),
            )
        case Released():
            return Change(
                transition=RELEASE if settlement.at is None else RELEASE_LATER,
                otherwise=STOP_UNCHARGED,
                scheduled_for=settlement.at,
                status_reason=settlement.reason,
            )
        case Snoozed():
            return Change(
                transition=SNOOZE,
                otherwise=STOP_UNCHARGED,
                scheduled_for=settlement.at,
                status_reason=SNOOZED,
            )
        case _:
            raise TypeError(f"{type(settlement).__name__} is no settlement")


def lose(
    *,
    crashes: int,
    suspects: int,
    crashed: bool,
    vanished: bool,
    cause: str,
    max_crashes: int,
    now: int,
) -> Change:
    """What becomes of a running job whose holder is gone.

    A job that was running when its process died gets a crash: after the first it is
    queued again at once, after the second it waits and then has a process to itself, so
    that it cannot take its neighbours with it, and the last one fails it. Jobs that
    the process had merely fetched are queued again.

    :param crashes: those that its record has so far.
    :param suspects: likewise.
    :param crashed: the job had started in a process that died.
    :param vanished: it is unknown whether it had started.
    :param cause: how the holder ended, for the error's text.
    """
    crashes += crashed
    suspects += vanished
    if crashes >= max_crashes and crashed or suspects >= MAX_SUSPECTS and vanished:
        times = f"{crashes} times" if crashed else f"{suspects} times, perhaps because of it"
        error = JobError(
            type="WorkerLost",
            message=f"the worker process died while it held this job, {times}: {cause}",
            code="worker_lost",
        )
        return Change(transition=FAIL_LOST, crashes=crashes, suspects=suspects, error=error)
    is_isolated = crashed and crashes >= 2
    return Change(
        transition=ISOLATE if is_isolated else RECLAIM,
        otherwise=STOP_LOST,
        scheduled_for=now + ISOLATION_DELAY if is_isolated else None,
        status_reason=WORKER_LOST,
        crashes=crashes,
        suspects=suspects,
    )


# People change it


def cancel(status: Status) -> Change | None:
    """What cancelling a job asks for; None if it runs or is over."""
    transition = CANCEL.get(status)
    return None if transition is None else Change(transition=transition)


def requeue(status: Status) -> Change | None:
    """What running a job again asks for that is over; None for one that it is not meant for."""
    transition = REQUEUE.get(status)
    return None if transition is None else Change(transition=transition)


# The record afterwards

_NEW: Final[dict[str, Any]] = {
    field.name: field.default
    for field in msgspec.structs.fields(JobRecord)
    if field.default is not msgspec.NODEFAULT
}


def apply(record: JobRecord, change: Change, now: int, retention: Retention) -> JobRecord:
    """The record after a change, as every engine writes it.

    :param record: before; its status is the source of the change's transition.
    """
    row = change.transition
    if change.otherwise is not None and record.cancel_requested:
        row = change.otherwise
    effects, target = row.effects, row.target
    assert target is not None
    fields: dict[str, Any] = {name: _NEW[name] for name in effects.resets}
    fields.update((name, getattr(change, name)) for name in effects.sets)
    if fields.get("started_at", 0) is None and "started_at" in effects.sets:
        fields["started_at"] = record.started_at
    if effects.attempt:
        fields["attempt"] = record.attempt + effects.attempt
    if row is CLAIM:
        fields["claim"] = record.claim + 1
    if effects.counts_release:
        fields["releases"] = record.releases + 1
        fields["released_since"] = record.released_since or now
    if effects.lane is not None:
        fields["lane"] = effects.lane
    if target.is_final:
        fields["finished_at"] = now
        fields["expires_at"] = retention.expires_at(target, now)
    return msgspec.structs.replace(
        record, status=target, updated_at=now, version=record.version + 1, **fields
    )


def ask_to_cancel(record: JobRecord, now: int) -> JobRecord:
    """The record of a running job that is to end: no transition, but it will not run again."""
    return msgspec.structs.replace(
        record, cancel_requested=True, updated_at=now, version=record.version + 1
    )


def note(record: JobRecord, report: Report | Settlement, now: int) -> JobRecord:
    """The record with the progress and the log lines that a run has reported."""
    if report.progress is None and not report.logs:
        return record
    return msgspec.structs.replace(
        record,
        progress=cut_progress(report.progress) if report.progress else record.progress,
        logs=add_lines(record.logs, report.logs),
        updated_at=now,
        version=record.version + 1,
    )


def deliver(record: JobRecord) -> Delivery:
    """What the worker gets that has claimed the job."""
    assert record.worker is not None
    return Delivery(
        id=record.id,
        queue=record.queue,
        actor=record.actor,
        priority=record.priority,
        message=record.message,
        worker=record.worker,
        attempt=record.attempt,
        claim=record.claim,
        created_at=record.created_at,
        crashes=record.crashes,
        released_since=record.released_since,
        releases=record.releases,
    )

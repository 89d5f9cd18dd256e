"""Conversions between rows and records. Values from a row are checked, because a database may
store any value in a column."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import Final
from typing import TypeVar

import msgspec

from ...errors import DecodeError
from ...jobs.delivery import Delivery
from ...jobs.delivery import Envelope
from ...jobs.record import Attempt
from ...jobs.record import JobError
from ...jobs.record import JobRecord
from ...jobs.record import LogLine
from ...jobs.record import Progress
from ...jobs.record import Status
from ...jobs.record_limits import damaged
from ...jobs.record_limits import DAMAGED_ERROR
from ..listing import Entry
from .transition_statements import SHARED

Row = tuple[Any, ...]

#: The fields of a record, in the order of the columns of ``Statements.get``.
FIELDS: Final = (
    "id",
    "queue",
    "actor",
    "priority",
    "status",
    "message",
    "created_at",
    "updated_at",
    "scheduled_for",
    "finished_at",
    "expires_at",
    *SHARED,
    "version",
    "max_attempts",
    "status_reason",
    "result",
    "error",
    "attempts",
    "logs",
    "lane",
    "releases",
    "released_since",
    "unique_key",
)

_error_decoder = msgspec.json.Decoder(JobError)
_attempts_decoder = msgspec.json.Decoder(tuple[Attempt, ...])
_progress_decoder = msgspec.json.Decoder(Progress)
_logs_decoder = msgspec.json.Decoder(tuple[LogLine, ...])

T = TypeVar("T")
D = TypeVar("D")


class Handle(msgspec.Struct, frozen=True):
    """Identifies the rows of a claimed job.

    :param seq: the number of the job's rows.
    :param id: the id of the job with this number.
    :param attempts: the content of the column ``attempts`` at the time of the claim.
    """

    seq: int
    id: str
    attempts: bytes | None


def token_of(delivery: Delivery) -> tuple[int, str, int]:
    """Return the guard values for statements on a claimed row."""
    handle: Handle = delivery.handle
    seq = handle.seq if handle.id == delivery.id else -1
    return seq, delivery.worker, delivery.claim


def to_rows(envelope: Envelope, seq: int, now: int) -> tuple[Row, Row]:
    """Return the values of a new job for ``insert_job`` and ``insert_live``.

    :param seq: the number of the new rows. It is also the job's place.
    """
    due_at = envelope.waits_until(now)
    created_at = now if envelope.created_at is None else envelope.created_at
    status = "queued" if due_at is None else "scheduled"
    job = (
        seq,
        envelope.id,
        envelope.queue,
        envelope.actor,
        envelope.priority,
        created_at,
        envelope.max_attempts,
        envelope.unique_key,
        envelope.message,
    )
    live = (
        seq,
        status,
        envelope.queue,
        envelope.priority,
        seq,
        due_at,
        now,
        envelope.unique_key,
    )
    return job, live


def to_delivery(claimed: Row, of_job: Row, worker: str) -> Delivery:
    """Return the delivery for a row that a worker has claimed.

    The delivery of a damaged row has an empty message, so that the job fails.
    """
    seq, queue, priority, _place, attempt, claim, crashes, releases, released_since = claimed
    _, job_id, actor, message, created_at, attempts = of_job
    if type(message) is not bytes or not type(created_at) is type(crashes) is int:
        message, created_at, crashes = b"", 0, 0
    return Delivery(
        id=job_id,
        queue=queue,
        actor=actor,
        priority=priority,
        message=message,
        worker=worker,
        attempt=attempt,
        claim=claim,
        created_at=created_at,
        crashes=crashes,
        released_since=released_since,
        releases=releases,
        handle=Handle(seq, job_id, attempts),
    )


def to_record(row: Row) -> JobRecord:
    """Return the record for a row with the columns :data:`FIELDS`.

    :raises DecodeError: the row has values that are not valid in a record.
    """
    fields = dict(zip(FIELDS, row, strict=True))
    if fields["status"] != Status.SUCCEEDED:
        fields["result"] = None
    error, progress = fields["error"], fields["progress"]
    fields["error"] = None if error is None else _decode(_error_decoder, error, DAMAGED_ERROR)
    fields["attempts"] = to_attempts(fields["attempts"])
    fields["logs"] = to_logs(fields["logs"])
    fields["progress"] = (
        None if progress is None else _decode(_progress_decoder, progress, None)
    )
    fields["cancel_requested"] = bool(fields["cancel_requested"])
    try:
        return msgspec.convert(fields, JobRecord)
    except msgspec.ValidationError as found:
        raise damaged(fields["id"], found) from None


def to_entries(rows: Sequence[Row], key: Callable[[Row, str], tuple[Any, ...]]) -> list[Entry]:
    """Return list entries for rows that have the sort key after the columns of a record."""
    entries: list[Entry] = []
    for row in rows:
        columns = row[: len(FIELDS)]
        try:
            record = to_record(columns)
        except DecodeError:
            record = None
        entries.append((key(row[len(FIELDS) :], str(columns[0])), record))
    return entries


def to_attempts(data: bytes | None) -> tuple[Attempt, ...]:
    """Decode the column ``attempts``."""
    return () if data is None else _decode(_attempts_decoder, data, ())


def to_logs(data: bytes | None) -> tuple[LogLine, ...]:
    """Decode the column ``logs``."""
    return () if data is None else _decode(_logs_decoder, data, ())


def _decode(decoder: msgspec.json.Decoder[T], data: bytes, otherwise: D) -> T | D:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError):
        return otherwise  # damaged history must not prevent storing an outcome

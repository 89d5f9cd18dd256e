"""Encodes a record as bytes: a header of numbers, followed by all texts.

The scripts read and change the header, and copy the texts. The same layout is at the beginning
of ``scripts/common.lua``. A missing value is -1 or empty.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final
from typing import TypeVar

import msgspec

from ...jobs.delivery import Envelope
from ...jobs.record import Attempt
from ...jobs.record import JobError
from ...jobs.record import JobRecord
from ...jobs.record import Lane
from ...jobs.record import LogLine
from ...jobs.record import Progress
from ...jobs.record import Status
from ...jobs.record_limits import damaged
from ...jobs.record_limits import DAMAGED_ERROR

#: The header that a sender writes. The server adds the job's number and place before it.
_SENT: Final = struct.Struct("<BBdHBbIiHHIIIddddddHHHHIIIIII")
HEAD: Final = struct.Struct("<ddBBdHBbIiHHIIIddddddHHHHIIIIII")

#: The format of these bytes. A release skips a record whose format has a higher number than its
#: own. Data that a newer release adds after all texts is kept and not read.
FORMAT: Final = 1

#: The positions of the status and the flags in the bytes.
STATUS_AT: Final = struct.calcsize("<ddB")
_FLAGS_AT: Final = struct.calcsize("<ddBBdH")

#: How much longer than its record a key exists, in milliseconds. The expiry time in the record
#: decides whether the record is over.
SLACK: Final = 60_000

NONE: Final = -1
_LEVEL: Final = 2**48
CANCEL_REQUESTED: Final = 1
ALONE: Final = 2
HAS_LOGS: Final = 4

CODES: Final = {
    Status.SCHEDULED: 1,
    Status.QUEUED: 2,
    Status.BLOCKED: 3,
    Status.RUNNING: 4,
    Status.SUCCEEDED: 5,
    Status.FAILED: 6,
    Status.CANCELLED: 7,
    Status.EXPIRED: 8,
}
STATUSES: Final = {code: status for status, code in CODES.items()}
SUCCEEDED: Final = CODES[Status.SUCCEEDED]
_SCHEDULED: Final = CODES[Status.SCHEDULED]
QUEUED: Final = CODES[Status.QUEUED]

_error_decoder = msgspec.json.Decoder(JobError)
_attempts_decoder = msgspec.json.Decoder(tuple[Attempt, ...])
_progress_decoder = msgspec.json.Decoder(Progress)
_line_decoder = msgspec.json.Decoder(LogLine)

T = TypeVar("T")
D = TypeVar("D")


def to_bytes(envelope: Envelope, now: int) -> bytes:
    """Return the record of a new job, without its number and its place.

    :param now: the time by the server's clock.
    """
    queue = envelope.queue.encode()
    actor = envelope.actor.encode()
    due_at = envelope.waits_until(now)
    maximum = envelope.max_attempts
    key = (envelope.unique_key or "").encode()
    return (
        _SENT.pack(
            FORMAT,
            QUEUED if due_at is None else _SCHEDULED,
            _to_number(due_at),
            len(queue),
            0,
            envelope.priority,
            0,
            NONE if maximum is None else maximum,
            0,
            0,
            0,
            0,
            1,
            now if envelope.created_at is None else envelope.created_at,
            now,
            NONE,
            NONE,
            NONE,
            NONE,
            len(actor),
            0,
            0,
            len(key),
            len(envelope.message),
            0,
            0,
            0,
            0,
            0,
        )
        + queue
        + actor
        + key
        + envelope.message
    )


def to_arguments(envelopes: Sequence[Envelope], now: int) -> list[bytes | str]:
    """Return the id and the record of each new job, as arguments of a script.

    :param now: the time by the server's clock.
    """
    arguments: list[bytes | str] = []
    for envelope in envelopes:
        arguments += (envelope.id, to_bytes(envelope, now))
    return arguments


def is_queued(raw: bytes | None) -> bool:
    """Return whether these bytes are the record of a queued job. A worker may hold that job, if
    its claim is not written to the record yet."""
    return raw is not None and len(raw) > STATUS_AT and raw[STATUS_AT] == QUEUED


def to_counts(raw: bytes | None) -> tuple[int, int] | None:
    """Return the crashes and suspects of a record, or None if these bytes are not a valid
    record."""
    if raw is None or len(raw) < HEAD.size:
        return None
    head = HEAD.unpack_from(raw)
    is_whole = len(raw) == HEAD.size + head[5] + sum(head[21:])
    return (head[10], head[11]) if is_whole and head[2] == FORMAT else None


def fits(
    raw: bytes | None, status: Status, queue: bytes | None, actor: bytes | None, now: int
) -> bool:
    """Return whether these bytes are a record with this status, queue and actor that has not
    expired. This is called for many records. Most of them are not decoded further.

    :param queue: the queue, or None for any.
    :param actor: the actor, or None for any.
    :param now: the time in milliseconds since the epoch.
    """
    if raw is None or len(raw) < HEAD.size:
        return False
    head = HEAD.unpack_from(raw)
    if head[3] != CODES[status] or 0 <= head[19] <= now:
        return False
    end = HEAD.size + head[5]
    return (queue is None or raw[HEAD.size : end] == queue) and (
        actor is None or raw[end : end + head[21]] == actor
    )


def has_logs(raw: bytes) -> bool:
    """Return whether the job has log lines, which are stored in another key."""
    return len(raw) > _FLAGS_AT and bool(raw[_FLAGS_AT] & HAS_LOGS)


def to_record(job_id: str, raw: bytes, lines: Sequence[bytes] = ()) -> JobRecord:
    """Decode a record.

    :param lines: the lines of the job's log.
    :raises DecodeError: the bytes are not a valid record.
    """
    try:
        return _to_record(job_id, raw, lines)
    except (struct.error, KeyError, ValueError, OverflowError) as error:
        raise damaged(job_id, error) from error


def _to_record(job_id: str, raw: bytes, lines: Sequence[bytes]) -> JobRecord:
    (
        _seq,
        _place,
        format_,
        status,
        due,
        queue_length,
        flags,
        priority,
        attempt,
        maximum,
        crashes,
        suspects,
        claim,
        releases,
        version,
        created,
        updated,
        started,
        finished,
        expires,
        released,
        *lengths,
    ) = HEAD.unpack_from(raw)
    if format_ != FORMAT:
        raise ValueError(f"its format is {format_}, and this release knows {FORMAT}")
    parts = []
    at = HEAD.size
    for length in (queue_length, *lengths):
        parts.append(raw[at : at + length])
        at += length
    if at != len(raw):
        raise ValueError(f"it has {len(raw)} bytes and not {at}")
    queue, actor, worker, reason, key, message, result, error, attempts, progress, _ = parts
    return JobRecord(
        id=job_id,
        queue=queue.decode(),
        actor=actor.decode(),
        priority=priority,
        status=STATUSES[status],
        message=message,
        created_at=int(created),
        updated_at=int(updated),
        scheduled_for=_time(due),
        started_at=_time(started),
        finished_at=_time(finished),
        expires_at=_time(expires),
        attempt=attempt,
        max_attempts=None if maximum < 0 else maximum,
        crashes=crashes,
        suspects=suspects,
        cancel_requested=bool(flags & CANCEL_REQUESTED),
        status_reason=reason.decode() or None,
        result=result if status == CODES[Status.SUCCEEDED] else None,
        error=_decode(_error_decoder, error, DAMAGED_ERROR) if error else None,
        attempts=to_attempts(attempts),
        progress=_decode(_progress_decoder, progress, None) if progress else None,
        logs=_to_lines(lines),
        worker=worker.decode() or None,
        version=version,
        lane=Lane.ALONE if flags & ALONE else Lane.ORDINARY,
        claim=claim,
        releases=releases,
        released_since=_time(released),
        unique_key=key.decode() or None,
    )


def to_attempts(data: bytes) -> tuple[Attempt, ...]:
    """Decode attempts."""
    return _decode(_attempts_decoder, data, ()) if data else ()


def _to_lines(lines: Sequence[bytes]) -> tuple[LogLine, ...]:
    decoded = (_decode(_line_decoder, line, None) for line in lines)
    return tuple(line for line in decoded if line is not None)


def _decode(decoder: msgspec.json.Decoder[T], data: bytes, otherwise: D) -> T | D:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return otherwise  # damaged history must not prevent storing an outcome


def to_score(priority: int, place: int) -> int:
    """Return the score of a job in a sorted set, as ``score()`` in ``scripts/common.lua``
    does."""
    return (priority + 9) * _LEVEL + place


def to_turn(score: int) -> tuple[int, int]:
    """Return the priority and the place of a job from its score."""
    return score // _LEVEL - 9, score % _LEVEL


def _to_number(value: int | None) -> int:
    return NONE if value is None else value


def _time(value: float) -> int | None:
    return None if value < 0 else int(value)

"""Encodes a record as bytes: a header of numbers, followed by all texts.

The scripts read and change the header, and copy the texts. The same layout is at the beginning
of ``scripts/common.lua``. A missing value is -1 or empty.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any
from typing import Final
from typing import NamedTuple
from typing import TypeVar

import msgspec

from ...jobs.delivery import Delivery
from ...jobs.delivery import Envelope
from ...jobs.delivery import Succeeded
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
_HEAD: Final = struct.Struct("<ddBBdHBbIiHHIIIddddddHHHHIIIIII")

#: The format of these bytes. A release skips a record whose format has a higher number than its
#: own. Data that a newer release adds after all texts is kept and not read.
FORMAT: Final = 1

#: The positions of the status and the flags in the bytes.
_STATUS_AT: Final = struct.calcsize("<ddB")
_FLAGS_AT: Final = struct.calcsize("<ddBBdH")

#: How much longer than its record a key exists, in milliseconds. The expiry time in the record
#: decides whether the record is over.
SLACK: Final = 60_000

_NONE: Final = -1
_LEVEL: Final = 2**48
_CANCEL_REQUESTED: Final = 1
_ALONE: Final = 2
_HAS_LOGS: Final = 4

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
_SUCCEEDED: Final = CODES[Status.SUCCEEDED]
_SCHEDULED: Final = CODES[Status.SCHEDULED]
_QUEUED: Final = CODES[Status.QUEUED]

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
            _QUEUED if due_at is None else _SCHEDULED,
            _to_number(due_at),
            len(queue),
            0,
            envelope.priority,
            0,
            _NONE if maximum is None else maximum,
            0,
            0,
            0,
            0,
            1,
            now if envelope.created_at is None else envelope.created_at,
            now,
            _NONE,
            _NONE,
            _NONE,
            _NONE,
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


class Claimed(NamedTuple):
    """The data of a claim that the settlement of its delivery needs.

    :param token: the token of the claim in the server.
    :param claim: the claim number of the delivery.
    :param worker: the worker that holds the job.
    :param raw: the record at the time of the claim.
    :param head: the header of that record.
    """

    token: str
    claim: int
    worker: str
    raw: bytes
    head: tuple[Any, ...]

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts in the record."""
        head = self.head
        end = len(self.raw) - sum(head[29:])
        return to_attempts(self.raw[end - head[28] : end])


def read_claims(
    ids: Sequence[str],
    tokens: Sequence[str],
    worker: str,
    sizes: Sequence[bytes],
    raws: bytes,
) -> list[Delivery]:
    """Return the deliveries for claimed records.

    The delivery of a damaged record has an empty message, so that the job fails.

    :param sizes: the size of each record in bytes.
    :param raws: the concatenated records.
    """
    deliveries = []
    end = 0
    for job_id, token, size in zip(ids, tokens, sizes, strict=True):
        at, end = end, end + int(size)
        raw = raws[at:end]
        head = _HEAD.unpack_from(raw)
        deliveries.append(_to_delivery(job_id, token, worker, raw, head))
    return deliveries


def _to_delivery(
    job_id: str, token: str, worker: str, raw: bytes, head: tuple[Any, ...]
) -> Delivery:
    # If the claim is not written to the record yet, it is added here.
    more = head[3] == _QUEUED
    claim = head[12] + more
    released = head[20]
    at = _HEAD.size
    queue_end = at + head[5]
    actor_end = queue_end + head[21]
    message_at = actor_end + head[22] + head[23] + head[24]
    handle = Claimed(token, claim, worker, raw, head)
    try:
        if at + head[5] + sum(head[21:]) != len(raw):
            raise ValueError("not all of it is there")
        return Delivery(
            id=job_id,
            queue=raw[at:queue_end].decode(errors="replace"),
            actor=raw[queue_end:actor_end].decode(errors="replace"),
            priority=head[7],
            message=raw[message_at : message_at + head[25]],
            worker=worker,
            attempt=head[8] + more,
            claim=claim,
            created_at=int(head[15]),
            crashes=head[10],
            released_since=None if released < 0 else int(released),
            releases=head[13],
            handle=handle,
        )
    except (ValueError, OverflowError):  # or a time is not a finite number
        return Delivery(
            id=job_id,
            queue="",
            actor="",
            priority=head[7],
            message=b"",
            worker=worker,
            attempt=head[8] + more,
            claim=claim,
            created_at=0,
            handle=handle,
        )


def find_claimed(delivery: Delivery, worker: str) -> Claimed | None:
    """Return the claim of a delivery, or None if the delivery is not as this worker has
    received it."""
    claimed: Claimed = delivery.handle
    if claimed.claim != delivery.claim or not claimed.worker == delivery.worker == worker:
        return None
    return claimed


def to_succeeded(
    done: Succeeded, worker: str, now: int, expires_at: int
) -> tuple[str, bytes] | None:
    """Return the token and the new record of a job that has succeeded. Return None if the
    script must make the record, because other keys of the job exist or must change too.

    This has the effects of the transition ``claim`` and then of ``succeed``.

    :param now: the time by the server's clock.
    :param worker: the worker that settles the job.
    :param expires_at: the expiry time of the record.
    """
    claimed = find_claimed(done.delivery, worker)
    if claimed is None:
        return None
    (
        seq,
        place,
        format_,
        status,
        _due,
        queue_length,
        flags,
        priority,
        attempt,
        maximum,
        crashes,
        suspects,
        claim,
        _releases,
        version,
        created,
        _updated,
        _started,
        _finished,
        _expires,
        _released,
        actor_length,
        worker_length,
        reason_length,
        key_length,
        message_length,
        result_length,
        error_length,
        attempts_length,
        progress_length,
        extra_length,
    ) = claimed.head
    if (
        status != _QUEUED
        or flags & (_HAS_LOGS | _CANCEL_REQUESTED)
        or key_length
        or done.follow_ups
        or done.logs
        or done.progress is not None
    ):
        return None
    raw, result, holder = claimed.raw, done.result, worker.encode()
    started_at = done.started_at
    if started_at is None:
        started_at = int(claimed.token.split(":")[2])  # the time of the claim
    names_end = _HEAD.size + queue_length + actor_length
    message_at = names_end + worker_length + reason_length
    message_end = message_at + message_length
    attempts_at = message_end + result_length + error_length
    attempts_end = attempts_at + attempts_length
    head = _HEAD.pack(
        seq,
        place,
        format_,
        _SUCCEEDED,
        _NONE,
        queue_length,
        flags & ~_ALONE,
        priority,
        attempt + 1,
        maximum,
        crashes,
        suspects,
        claim + 1,
        0,
        version + 2,
        created,
        now,
        started_at,
        now,
        expires_at,
        _NONE,
        actor_length,
        len(holder),
        0,
        0,
        message_length,
        len(result),
        0,
        attempts_length,
        0,
        extra_length,
    )
    record = b"".join(
        (
            head,
            raw[_HEAD.size : names_end],
            holder,
            raw[message_at:message_end],
            result,
            raw[attempts_at:attempts_end],
            raw[attempts_end + progress_length :],
        )
    )
    return claimed.token, record


def with_claim(raw: bytes, worker: str, token: bytes) -> bytes:
    """Return the record of a job that a worker holds, with the claim added if it is not written
    yet.

    The result is the same as that of ``hold()`` in ``scripts/common.lua``.

    :param token: the token of the claim in the server.
    """
    if len(raw) < _HEAD.size or raw[_STATUS_AT] != _QUEUED:
        return raw
    head = list(_HEAD.unpack_from(raw))
    holder, at = worker.encode(), float(token.split(b":")[2])
    names_end = _HEAD.size + head[5] + head[21]
    key_at = names_end + head[22] + head[23]
    progress_at = len(raw) - head[29] - head[30]
    rest = raw[key_at:progress_at] + raw[len(raw) - head[30] :]
    head[3], head[4] = CODES[Status.RUNNING], _NONE
    for number in (8, 12, 14):  # attempt, claim, version
        head[number] += 1
    head[16] = head[17] = at
    head[22], head[23], head[29] = len(holder), 0, 0
    return _HEAD.pack(*head) + raw[_HEAD.size : names_end] + holder + rest


def is_queued(raw: bytes | None) -> bool:
    """Return whether these bytes are the record of a queued job. A worker may hold that job, if
    its claim is not written to the record yet."""
    return raw is not None and len(raw) > _STATUS_AT and raw[_STATUS_AT] == _QUEUED


def to_counts(raw: bytes | None) -> tuple[int, int] | None:
    """Return the crashes and suspects of a record, or None if these bytes are not a valid
    record."""
    if raw is None or len(raw) < _HEAD.size:
        return None
    head = _HEAD.unpack_from(raw)
    is_whole = len(raw) == _HEAD.size + head[5] + sum(head[21:])
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
    if raw is None or len(raw) < _HEAD.size:
        return False
    head = _HEAD.unpack_from(raw)
    if head[3] != CODES[status] or 0 <= head[19] <= now:
        return False
    end = _HEAD.size + head[5]
    return (queue is None or raw[_HEAD.size : end] == queue) and (
        actor is None or raw[end : end + head[21]] == actor
    )


def has_logs(raw: bytes) -> bool:
    """Return whether the job has log lines, which are stored in another key."""
    return len(raw) > _FLAGS_AT and bool(raw[_FLAGS_AT] & _HAS_LOGS)


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
    ) = _HEAD.unpack_from(raw)
    if format_ != FORMAT:
        raise ValueError(f"its format is {format_}, and this release knows {FORMAT}")
    parts = []
    at = _HEAD.size
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
        cancel_requested=bool(flags & _CANCEL_REQUESTED),
        status_reason=reason.decode() or None,
        result=result if status == CODES[Status.SUCCEEDED] else None,
        error=_decode(_error_decoder, error, DAMAGED_ERROR) if error else None,
        attempts=to_attempts(attempts),
        progress=_decode(_progress_decoder, progress, None) if progress else None,
        logs=_to_lines(lines),
        worker=worker.decode() or None,
        version=version,
        lane=Lane.ALONE if flags & _ALONE else Lane.ORDINARY,
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
    return _NONE if value is None else value


def _time(value: float) -> int | None:
    return None if value < 0 else int(value)

"""Claims as the worker keeps them, and the records that a claim or a success produces.

A claim does not write the record. Therefore this module produces the record with the claim.
``hold()`` in ``scripts/common.lua`` produces the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from ...jobs.delivery import Delivery
from ...jobs.delivery import Succeeded
from ...jobs.record import Attempt
from ...jobs.record import Status
from .layout import ALONE
from .layout import CANCEL_REQUESTED
from .layout import CODES
from .layout import HAS_LOGS
from .layout import HEAD
from .layout import NONE
from .layout import QUEUED
from .layout import STATUS_AT
from .layout import SUCCEEDED
from .layout import to_attempts


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
        head = HEAD.unpack_from(raw)
        deliveries.append(_to_delivery(job_id, token, worker, raw, head))
    return deliveries


def _to_delivery(
    job_id: str, token: str, worker: str, raw: bytes, head: tuple[Any, ...]
) -> Delivery:
    # If the claim is not written to the record yet, it is added here.
    more = head[3] == QUEUED
    claim = head[12] + more
    released = head[20]
    at = HEAD.size
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
        status != QUEUED
        or flags & (HAS_LOGS | CANCEL_REQUESTED)
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
    names_end = HEAD.size + queue_length + actor_length
    message_at = names_end + worker_length + reason_length
    message_end = message_at + message_length
    attempts_at = message_end + result_length + error_length
    attempts_end = attempts_at + attempts_length
    head = HEAD.pack(
        seq,
        place,
        format_,
        SUCCEEDED,
        NONE,
        queue_length,
        flags & ~ALONE,
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
        NONE,
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
            raw[HEAD.size : names_end],
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
    if len(raw) < HEAD.size or raw[STATUS_AT] != QUEUED:
        return raw
    head = list(HEAD.unpack_from(raw))
    holder, at = worker.encode(), float(token.split(b":")[2])
    names_end = HEAD.size + head[5] + head[21]
    key_at = names_end + head[22] + head[23]
    progress_at = len(raw) - head[29] - head[30]
    rest = raw[key_at:progress_at] + raw[len(raw) - head[30] :]
    head[3], head[4] = CODES[Status.RUNNING], NONE
    for number in (8, 12, 14):  # attempt, claim, version
        head[number] += 1
    head[16] = head[17] = at
    head[22], head[23], head[29] = len(holder), 0, 0
    return HEAD.pack(*head) + raw[HEAD.size : names_end] + holder + rest

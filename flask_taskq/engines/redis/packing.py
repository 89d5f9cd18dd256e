"""Changes as bytes: what ``scripts/changing.lua`` reads."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

import msgspec

from ...clock import END_OF_TIME
from ...jobs.lifecycle import Change
from ...jobs.lifecycle import Retention
from ...jobs.record import Lane
from ...jobs.transitions import Transition
from ...jobs.transitions import TRANSITIONS
from .layout import CODES

_NONE: Final = -1

# Each row of the table: status, what is added to the attempt, effects, how long the record is
# kept. Then due, started, crashes, suspects; the lengths of reason, result, error, attempts.
_CHANGE: Final = struct.Struct("<BbIdBbIdddHHHIII")

#: What an effect on a field is called in the script. Those that are not here go with others:
#: each row that has them is a requeue.
_SETS: Final[Mapping[str, int]] = {
    "scheduled_for": 1,
    "status_reason": 4,
    "error": 16,
    "attempts": 64,
    "started_at": 128,
    "result": 256,
    "crashes": 512,
    "suspects": 512,
    "cancel_requested": 65_536,
    # What a claim does is in claiming.lua.
    "worker": 0,
}
_RESETS: Final[Mapping[str, int]] = {
    "scheduled_for": 2,
    "status_reason": 8,
    "error": 32,
    "worker": 1_024,
    "releases": 2_048,
    "released_since": 2_048,
    "lane": 16_384,
    "progress": 0,
    # Only together, in a requeue:
    "attempt": 131_072,
    "crashes": 131_072,
    "suspects": 131_072,
    "cancel_requested": 131_072,
    "expires_at": 131_072,
    "finished_at": 131_072,
    "started_at": 131_072,
}
_COUNTS_RELEASE: Final = 4_096
_MOVES_ALONE: Final = 8_192
_TAKES_PLACE: Final = 32_768


def _find_effects(row: Transition) -> int:
    effects = row.effects
    bits = 0
    for name in effects.sets:
        bits |= _SETS[name]
    for name in effects.resets:
        bits |= _RESETS[name]
    if effects.counts_release:
        bits |= _COUNTS_RELEASE
    if effects.lane is Lane.ALONE:
        bits |= _MOVES_ALONE
    if effects.takes_place:
        bits |= _TAKES_PLACE
    return bits


_EFFECTS: Final = {row: _find_effects(row) for row in TRANSITIONS}


def pack_change(change: Change, retention: Retention) -> bytes:
    """A change, with the row that holds in its place if cancelling was asked for."""
    reason = (change.status_reason or "").encode()
    result = change.result or b""
    error = b"" if change.error is None else msgspec.json.encode(change.error)
    attempts = msgspec.json.encode(change.attempts) if change.attempts else b""
    due = change.scheduled_for
    started = change.started_at
    head = _CHANGE.pack(
        *_pack_row(change.transition, retention),
        *((0, 0, 0, 0) if change.otherwise is None else _pack_row(change.otherwise, retention)),
        _NONE if due is None else min(max(0, due), END_OF_TIME),
        _NONE if started is None else started,
        change.crashes,
        change.suspects,
        len(reason),
        len(result),
        len(error),
        len(attempts),
    )
    return b"".join((head, reason, result, error, attempts))


def _pack_row(row: Transition, retention: Retention) -> tuple[int, int, int, int]:
    assert row.target is not None
    kept = retention.expires_at(row.target, 0) if row.target.is_final else 0
    return CODES[row.target], row.effects.attempt, _EFFECTS[row], kept

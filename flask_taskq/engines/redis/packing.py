"""Encodes changes as bytes for ``scripts/transition_functions.lua``."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

import msgspec

from ...clock import END_OF_TIME
from ...jobs.lifecycle import Change
from ...jobs.lifecycle import Retention
from ...jobs.record import Lane
from ...jobs.transitions import SUCCEED
from ...jobs.transitions import Transition
from ...jobs.transitions import TRANSITIONS
from .layout import CODES

_NONE: Final = -1

# Status, increment of the attempt, effects, and retention time of the record. These are the
# values of the transition, and then of the one to make instead if cancellation was requested.
_ROWS: Final = struct.Struct("<BbIdBbId")
# Due time, start time, crashes and suspects; then the lengths of reason, result, error and
# attempts.
_VALUES: Final = struct.Struct("<ddHHHIII")

#: The bit in the script for each effect on a field. An effect with the value 0 needs no bit.
#: Effects that share a bit always occur together.
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
    # The scripts apply the effects of a claim without a packed change.
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
    # These only occur together, in a requeue.
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


class Packer:
    """Encodes changes as bytes.

    :param retention: the retention times of records.
    """

    def __init__(self, retention: Retention) -> None:
        self.retention = retention
        # The encoded transitions, which are the same for each change.
        self._rows: dict[tuple[Transition, Transition | None], bytes] = {}
        #: The change of a job that has succeeded, without its result and its start time.
        self.success = self.pack(Change(transition=SUCCEED))

    def pack(self, change: Change) -> bytes:
        """Encode a change, with the transition to make instead if cancellation was
        requested."""
        key = (change.transition, change.otherwise)
        rows = self._rows.get(key)
        if rows is None:
            rows = self._rows[key] = self._pack_rows(*key)
        reason = b"" if change.status_reason is None else change.status_reason.encode()
        result = change.result or b""
        error = b"" if change.error is None else msgspec.json.encode(change.error)
        attempts = msgspec.json.encode(change.attempts) if change.attempts else b""
        due, started = change.scheduled_for, change.started_at
        values = _VALUES.pack(
            _NONE if due is None else min(max(0, due), END_OF_TIME),
            _NONE if started is None else started,
            change.crashes,
            change.suspects,
            len(reason),
            len(result),
            len(error),
            len(attempts),
        )
        return b"".join((rows, values, reason, result, error, attempts))

    def _pack_rows(self, row: Transition, otherwise: Transition | None) -> bytes:
        other = (0, 0, 0, 0) if otherwise is None else self._describe(otherwise)
        return _ROWS.pack(*self._describe(row), *other)

    def _describe(self, row: Transition) -> tuple[int, int, int, int]:
        assert row.target is not None
        kept = self.retention.expires_at(row.target, 0) if row.target.is_final else 0
        return CODES[row.target], row.effects.attempt, _EFFECTS[row], kept

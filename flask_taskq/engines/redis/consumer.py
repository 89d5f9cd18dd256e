"""The consumer of one worker."""

from __future__ import annotations

import os
import secrets
import struct
import threading
from collections.abc import Sequence
from typing import Any
from typing import Final

import msgspec

from ...clock import END_OF_TIME
from ...errors import LeaseLost
from ...jobs import lifecycle
from ...jobs.delivery import Delivery
from ...jobs.delivery import Report
from ...jobs.delivery import Settlement
from ...jobs.delivery import Succeeded
from ...jobs.record import Lane
from ...jobs.record import Status
from ...jobs.record_limits import add_lines
from ...jobs.record_limits import cut_progress
from ...jobs.record_limits import KEPT_LOG_LINES
from ..base import Consumer
from ..base import Reported
from ..base import Settled
from .claims import Claimed
from .claims import find_claimed
from .claims import read_claims
from .claims import to_succeeded
from .connection import Packed
from .connection import RedisConnection
from .layout import SLACK
from .layout import STATUSES
from .layout import to_arguments
from .script_source import CLAIM
from .script_source import FETCH
from .script_source import REPORT
from .script_source import SETTLE
from .store import read_renewal
from .store import Store

#: The longest wait for a wake-up, in milliseconds. It limits the delay of a job whose wake-up
#: went to a consumer that died.
LOOK_AGAIN: Final = 2_000

#: The maximum number of jobs that one call settles or claims, so that no call blocks the server
#: for long.
_AT_ONCE: Final = 500

# The numbers of log lines and follow-ups, which are separate arguments. Then the lengths of the
# token, the id, the worker and the progress. These texts follow, and then the change.
_SETTLEMENT: Final = struct.Struct("<IIHHHI")
# The number of log lines, which are separate arguments. Then the lengths of the token, the id,
# the worker and the progress. These texts follow.
_REPORT: Final = struct.Struct("<IHHHI")

# Replaces the token of a delivery that differs from the claimed one. No claim has this token.
_NO_TOKEN: Final = "-"


class _Channel:
    """A connection with numbered calls, so that the result of a call with a lost reply can be
    obtained."""

    def __init__(self, connection: RedisConnection) -> None:
        self.connection = connection
        self.name = secrets.token_hex(4)
        self.lock = threading.Lock()
        self.number = 0
        self.answered = 0
        #: The token of all jobs that the last call has claimed.
        self.token = ""


class RedisConsumer(Consumer):
    """Fetches, settles and reports over one connection each, so that these calls do not wait
    for each other."""

    def __init__(self, store: Store, queues: Sequence[str], worker: str, lane: Lane) -> None:
        self._store = store
        self._queues = list(queues)
        self._turn = 0
        self._worker = worker
        self._lane = lane
        self._fetching = _Channel(store.new_connection())
        self._settling = _Channel(store.new_connection())
        self._reporting = _Channel(store.new_connection())
        self._interrupted = False
        self._bell_lock = threading.Lock()
        self._bell: tuple[int, int] | None = None

    def fetch(self, limit: int, timeout: int) -> list[Delivery]:
        clock = self._store.clock
        until = clock.monotonic() + timeout
        with self._fetching.lock:
            deliveries, next_due, again = self._fetch_now(limit)
            while not deliveries:
                left = until - clock.monotonic()
                if not again:
                    if left <= 0 or self._interrupted:
                        break
                    self._wait(left, next_due)
                    if self._interrupted:  # the server may be unreachable
                        break
                deliveries, next_due, again = self._fetch_now(limit)
            self._stop_ringing()
            return deliveries

    def claim(self, job_ids: Sequence[str]) -> list[Delivery]:
        with self._fetching.lock:
            channel = self._fetching
            channel.connection.measure_time()
            deliveries: list[Delivery] = []
            for at in range(0, len(job_ids), _AT_ONCE):
                some = job_ids[at : at + _AT_ONCE]
                reply = channel.connection.run(CLAIM, [*self._call(channel, len(some)), *some])
                deliveries += self._read_claims(channel, reply)
            return deliveries

    def settle_if_held(self, settlements: Sequence[Settlement], then_fetch: int = 0) -> Settled:
        settled = Settled([], [], [])
        with self._settling.lock:
            for at in range(0, max(1, len(settlements)), _AT_ONCE):
                some = settlements[at : at + _AT_ONCE]
                is_last = at + _AT_ONCE >= len(settlements)
                self._settle(some, then_fetch if is_last else 0, settled)
        return settled

    def report_if_held(self, reports: Sequence[Report]) -> Reported:
        reported = Reported([], [])
        with self._reporting.lock:
            for at in range(0, len(reports), _AT_ONCE):
                stale, cancelled = self._report(self._reporting, reports[at : at + _AT_ONCE])
                reported.stale.extend(stale)
                reported.cancelled.extend(cancelled)
        return reported

    def add_queue(self, queue: str) -> None:
        self._queues.append(queue)

    def interrupt(self) -> None:
        with self._bell_lock:
            self._interrupted = True
            if self._bell is not None:
                os.write(self._bell[1], b"!")

    def close(self) -> None:
        for channel in (self._fetching, self._settling, self._reporting):
            channel.connection.close()
        with self._bell_lock:
            if self._bell is not None:
                for fd in self._bell:
                    os.close(fd)
                self._bell = None

    # --- Waiting ---

    def _wait(self, left: float, next_due: int | None) -> None:
        if next_due is not None:
            left = min(left, next_due - self._store.server.now())
        if left <= 0:
            return
        with self._bell_lock:
            if self._interrupted:
                return
            if self._bell is None:
                self._bell = os.pipe()
            bell = self._bell[0]
        kind = "wake:alone:" if self._lane is Lane.ALONE else "wake:"
        keys = [f"{self._store.prefix}{kind}{queue}" for queue in self._queues]
        self._fetching.connection.wait(keys, min(left, LOOK_AGAIN), bell)

    def _stop_ringing(self) -> None:
        with self._bell_lock:
            if self._interrupted and self._bell is not None:
                os.read(self._bell[0], 4096)
            self._interrupted = False

    # --- Claiming ---

    def _fetch_now(self, limit: int) -> tuple[list[Delivery], int | None, bool]:
        channel = self._fetching
        channel.connection.measure_time()
        deliveries: list[Delivery] = []
        while True:
            wanted = min(limit - len(deliveries), _AT_ONCE)
            arguments = [*self._call(channel, wanted), *self._in_turn()]
            reply = channel.connection.run(FETCH, arguments)
            fetched = self._read_claims(channel, reply)
            deliveries += fetched
            if len(fetched) < _AT_ONCE or len(deliveries) >= limit:
                next_due = reply[1]
                return deliveries, None if next_due < 0 else next_due, bool(reply[2])

    def _read_claims(self, channel: _Channel, reply: Sequence[Any]) -> list[Delivery]:
        renewal, _, _, _, _, *claims = reply
        if not renewal:
            raise LeaseLost(f"worker {self._worker} has no lease any more")
        deliveries = self._deliver(channel, *claims)
        self._note_answer(channel, renewal)
        return deliveries

    def _call(self, channel: _Channel, limit: int) -> list[bytes | str | int]:
        """Return the first arguments of a call: time, worker, lease, limit, lane, and call
        numbers."""
        channel.number += 1
        now = self._store.server.now()
        channel.token = f"{channel.name}:{channel.number}:{now}"
        renewal, unchanged_for = self._store.renewals.last(self._worker)
        is_over = renewal and unchanged_for >= read_renewal(renewal).lease
        head = (
            now,
            self._worker,
            renewal if is_over else b"",
            limit,
            int(self._lane is Lane.ALONE),
        )
        return [*head, channel.name, channel.number, channel.answered]

    def _in_turn(self) -> list[str]:
        """Return the queues, in the order for the present call."""
        queues = list(self._queues)
        turn = self._turn % (len(queues) or 1)
        return [*queues[turn:], *queues[:turn]]

    def _note_answer(self, channel: _Channel, renewal: bytes) -> None:
        """Record that a reply has arrived and was decoded completely."""
        channel.answered = channel.number
        self._store.renewals.note(self._worker, renewal)

    def _deliver(
        self, channel: _Channel, ids: bytes, tokens: bytes, sizes: bytes, raws: bytes
    ) -> list[Delivery]:
        if not ids:
            return []
        # The first queue comes last in the next call, so that a full queue does not starve the
        # others. The list itself is not changed, because the threads that fetch, settle and add
        # queues are different.
        self._turn += 1
        job_ids = ids.decode().split("\n")
        # The claims of calls with a lost reply come first.
        known = tokens.decode().split("\n") if tokens else []
        known += [channel.token] * (len(job_ids) - len(known))
        return read_claims(job_ids, known, self._worker, sizes.split(), raws)

    # --- Settling ---

    def _settle(
        self, settlements: Sequence[Settlement], then_fetch: int, settled: Settled
    ) -> None:
        channel = self._settling
        channel.connection.measure_time()
        queues = self._in_turn()
        head = self._call(channel, min(then_fetch, _AT_ONCE))
        head += (len(queues), *queues)
        now = self._store.server.now()
        retention = self._store.packer.retention
        expires_at = retention.expires_at(Status.SUCCEEDED, now)
        succeeded: list[bytes] = []
        others: list[bytes | str] = []
        # The positions of the two kinds of settlements in the result.
        places: tuple[list[int], list[int]] = ([], [])
        for place, settlement in enumerate(settlements):
            success = None
            if type(settlement) is Succeeded:
                success = to_succeeded(settlement, self._worker, now, expires_at)
            if success is not None:
                id_, token, record = settlement.delivery.id.encode(), *success
                # These words are encoded together, because encoding each one separately would
                # take as much time as the rest of the call.
                succeeded.append(
                    b"$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
                    % (len(id_), id_, len(token), token.encode(), len(record), record)
                )
                places[0].append(place)
                continue
            places[1].append(place)
            others.append(self._pack(settlement, now))
            others += _lines(settlement)
            if settlement.follow_ups:
                others += to_arguments(settlement.follow_ups, now)
        kept = min(expires_at - now, END_OF_TIME) + SLACK
        head += (kept, self._store.packer.success, len(places[0]))
        packed = Packed(3 * len(succeeded), b"".join(succeeded))
        reply = channel.connection.run(SETTLE, [*head, packed, *others])
        renewal, _, _, codes, ready, *claims = reply
        outcomes: list[Status | None] = [None] * len(settlements)
        for place, code in zip((*places[0], *places[1]), codes, strict=True):
            outcomes[place] = STATUSES.get(code)
        settled.outcomes.extend(outcomes)
        settled.ready.extend(ready.decode().split())
        settled.deliveries.extend(self._deliver(channel, *claims))
        if renewal:
            self._note_answer(channel, renewal)

    def _pack(self, settlement: Settlement, now: int) -> bytes:
        delivery = settlement.delivery
        claimed: Claimed = delivery.handle
        change = lifecycle.settle(settlement, claimed.attempts, now)
        token, id_, worker = _identify(delivery)
        progress = _progress(settlement)
        head = _SETTLEMENT.pack(
            min(len(settlement.logs), KEPT_LOG_LINES),
            len(settlement.follow_ups),
            len(token),
            len(id_),
            len(worker),
            len(progress),
        )
        body = self._store.packer.pack(change)
        return b"".join((head, token, id_, worker, progress, body))

    # --- Reporting ---

    def _report(
        self, channel: _Channel, reports: Sequence[Report]
    ) -> tuple[list[Delivery], list[Delivery]]:
        channel.connection.measure_time()
        channel.number += 1
        has_progress = any(report.progress is not None or report.logs for report in reports)
        now = self._store.server.now()
        arguments: list[bytes | str | int] = [now, self._worker, channel.name]
        arguments += (channel.number, int(has_progress))
        for report in reports:
            token, id_, worker = _identify(report.delivery)
            progress = _progress(report)
            lines = min(len(report.logs), KEPT_LOG_LINES)
            head = _REPORT.pack(lines, len(token), len(id_), len(worker), len(progress))
            arguments.append(b"".join((head, token, id_, worker, progress)))
            arguments += _lines(report)
        stale, cancelled = (
            [reports[int(index)].delivery for index in indexes.split()]
            for indexes in channel.connection.run(REPORT, arguments)
        )
        return stale, cancelled


def _identify(delivery: Delivery) -> tuple[bytes, bytes, bytes]:
    """Return the token, the id and the worker of a delivery."""
    claimed = find_claimed(delivery, delivery.worker)
    token = _NO_TOKEN if claimed is None else claimed.token
    return token.encode(), delivery.id.encode(), delivery.worker.encode()


def _progress(report: Report | Settlement) -> bytes:
    if report.progress is None:
        return b""
    return msgspec.json.encode(cut_progress(report.progress))


def _lines(report: Report | Settlement) -> list[bytes]:
    if not report.logs:
        return []
    return [msgspec.json.encode(line) for line in add_lines((), report.logs)]

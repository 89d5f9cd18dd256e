"""The consumer of one worker."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from typing import Final
from typing import NamedTuple

import msgspec

from ...errors import LeaseLost
from ...jobs import lifecycle
from ...jobs.delivery import Delivery
from ...jobs.delivery import Report
from ...jobs.delivery import Settlement
from ...jobs.record import FINAL
from ...jobs.record import Lane
from ...jobs.record import Status
from ...jobs.transitions import Transition
from ..base import Consumer
from ..base import HOUSEKEEPING_LIMIT
from ..base import Reported
from ..base import Settled
from ..sql.rows import Handle as JobHandle
from ..sql.rows import Row
from ..sql.rows import to_attempts
from ..sql.rows import to_delivery
from ..sql.rows import token_of
from ..sql.transition_statements import Given
from ..sql.transition_statements import Steps
from ..sql.transition_statements import to_values
from ..sql.transition_statements import Values
from .database import Handle
from .database import LogLostError
from .database import Version
from .store import Store
from .store import take_places
from .transitions import has_progress
from .transitions import insert_new
from .transitions import run
from .transitions import store_report
from .wakeup import Listener
from .workers import is_alive

#: How often a consumer checks the file without a wake-up, in milliseconds. These checks find
#: jobs that were stored by a process whose wake-up does not arrive.
SELDOM: Final = 100

#: Shorter intervals for a time after such a check has found a job. Each entry has the time
#: since then up to which it applies, and the interval, both in milliseconds.
LOOKS: Final = ((1_000, 2), (3_000, 10), (10_000, 50))

#: After this time in milliseconds, a consumer checks for jobs even if the file has not changed.
LOOK_AGAIN: Final = 1_000


class _Seen(NamedTuple):
    """The result of a check of the file."""

    version: Version
    next_due: int | None
    is_ready: bool


class _Step(NamedTuple):
    """A settlement, with its statements and their values.

    :param steps: the statements to use if cancellation was not requested. If ``otherwise`` is
        None, they are used in any case.
    :param otherwise: the statements to use if cancellation was requested.
    """

    settlement: Settlement
    row: Transition
    steps: Steps
    values: Given
    token: Values
    stopped: Transition | None = None
    otherwise: Steps | None = None


class _NotAllHeldError(Exception):
    """Some settlements of a batch are stale, or their jobs are to be cancelled. Nothing is
    stored then."""


class SQLiteConsumer(Consumer):
    """Claims and settles over its own connection. Its commits do not wait for the disk. Work
    whose commit is lost in a power failure is repeated."""

    def __init__(self, store: Store, queues: Sequence[str], worker: str, lane: Lane) -> None:
        self._store = store
        self._queues = list(queues)
        self._worker = worker
        self._lane = lane
        self._handle = Handle(store.database, synchronous="normal")
        self._listener = Listener(store.wakeup)
        self._look_statement = ""
        self._looks_at = -1  # the number of queues that the statement is for
        self._interrupted = False
        # The time when a job was last found without a wake-up. Minus infinity while wake-ups
        # arrive.
        self._unheard_at = float("-inf")
        # Claims that may or may not be stored.
        self._uncertain: list[Delivery] = []

    def fetch(self, limit: int, timeout: int) -> list[Delivery]:
        clock = self._store.clock
        until = clock.monotonic() + timeout
        if timeout > 0:
            self._listener.open()
        unheard = False
        while True:
            if self._uncertain and (deliveries := self._find_out()):
                return deliveries
            # Most checks find nothing, and then no lock is taken.
            seen = self._handle.read(self._look)
            now = clock.now()
            has_work = seen.is_ready or (seen.next_due is not None and seen.next_due <= now)
            deliveries = self._fetch_now(limit) if has_work else []
            if unheard and deliveries and seen.is_ready:
                self._unheard_at = clock.monotonic()
            left = until - clock.monotonic()
            if deliveries or left <= 0 or self._interrupted:
                self._interrupted = False
                return deliveries
            if not has_work:
                until_due = left if seen.next_due is None else seen.next_due - now
                unheard = self._wait(min(left, until_due, LOOK_AGAIN), seen.version)

    def claim(self, job_ids: Sequence[str]) -> list[Delivery]:
        def claim(connection: sqlite3.Connection) -> list[Delivery]:
            self._check_lease(self._lease(connection))
            now = self._store.clock.now()
            self._promote(connection, now)
            statements = self._store.statements
            values = to_values(lifecycle.claim(self._worker, now), now, 0)
            claimed: list[Row] = []
            for job_id in job_ids:
                given = statements.claim.values(values, (job_id,))
                claimed += connection.execute(statements.claim_one, given).fetchall()
            return self._deliver(connection, claimed)

        return self._claim_surely(claim)

    def settle_if_held(self, settlements: Sequence[Settlement], then_fetch: int = 0) -> Settled:
        now = self._store.clock.now()
        steps = self._to_steps(settlements, now)

        def then(connection: sqlite3.Connection, outcomes: list[Status | None]) -> Settled:
            ready = self._follow(connection, settlements, steps, outcomes, now)
            deliveries = []
            if then_fetch and self._is_alive(connection):
                deliveries = self._claim(connection, then_fetch)
            return Settled(outcomes, deliveries, ready)

        def settle_together(connection: sqlite3.Connection) -> Settled:
            self._store_reports(connection, settlements, now)
            self._settle_together(connection, steps)
            return then(connection, [step.row.target for step in steps])

        def settle_one_by_one(connection: sqlite3.Connection) -> Settled:
            outcomes = []
            for step in steps:
                self._store_reports(connection, [step.settlement], now)
                outcomes.append(self._settle_one(connection, step))
            return then(connection, outcomes)

        try:
            try:
                settled = self._handle.write(settle_together)
            except _NotAllHeldError:
                # Settling one by one shows which deliveries are stale or to be cancelled. This
                # starts with the first one, because of two settlements for one delivery the
                # second is stale.
                settled = self._handle.write(settle_one_by_one)
        except LogLostError as error:
            if isinstance(error.result, Settled):
                self._uncertain += error.result.deliveries
            raise
        if settled.ready or any(one.runs_again or one.follow_ups for one in settlements):
            self._store.wakeup.notify()
            self._listener.wake()
        return settled

    def report_if_held(self, reports: Sequence[Report]) -> Reported:
        def look(connection: sqlite3.Connection) -> Reported:
            stale, cancelled = [], []
            for report in reports:
                token = token_of(report.delivery)
                row = connection.execute(self._store.statements.is_asked, token).fetchone()
                if row is None:
                    stale.append(report.delivery)
                elif row[0]:
                    cancelled.append(report.delivery)
            return Reported(stale, cancelled)

        def keep(connection: sqlite3.Connection) -> Reported:
            self._store_reports(connection, reports, self._store.clock.now())
            return look(connection)

        if any(map(has_progress, reports)):
            return self._handle.write(keep)
        return self._handle.read(look)

    def add_queue(self, queue: str) -> None:
        self._queues.append(queue)

    def interrupt(self) -> None:
        self._interrupted = True
        self._listener.wake()

    def close(self) -> None:
        self._listener.close()
        self._handle.close()

    # --- Waiting ---

    def _look(self, connection: sqlite3.Connection) -> _Seen:
        version = self._handle.read_version(connection)
        queues = tuple(self._queues)
        if len(queues) != self._looks_at:
            self._look_statement = self._store.statements.look(len(queues))
            self._looks_at = len(queues)
        values = (self._worker, self._worker, *queues, self._lane.value)
        row = connection.execute(self._look_statement, values).fetchone()
        lease_until, lease, next_due, is_ready = row
        self._check_lease(None if lease is None else (lease_until, lease))
        return _Seen(version, next_due, bool(is_ready))

    def _wait(self, timeout: float, version: Version) -> bool:
        """Wait until there may be something to fetch.

        :return: whether a connection has written to the file without a wake-up.
        """
        clock = self._store.clock
        now = clock.monotonic()
        until = now + timeout
        while now < until:
            if self._listener.wait(min(until - now, self._interval(now))):
                self._unheard_at = float("-inf")
                return False
            if self._handle.data_version() != version:
                return True
            now = clock.monotonic()
        return False

    def _interval(self, now: float) -> int:
        quiet = now - self._unheard_at
        if quiet < LOOKS[-1][0]:
            return next(interval for end, interval in LOOKS if quiet < end)
        return SELDOM

    # --- Claiming ---

    def _fetch_now(self, limit: int) -> list[Delivery]:
        def claim(connection: sqlite3.Connection) -> list[Delivery]:
            self._check_lease(self._lease(connection))
            return self._claim(connection, limit)

        return self._claim_surely(claim)

    def _claim_surely(
        self, claim: Callable[[sqlite3.Connection], list[Delivery]]
    ) -> list[Delivery]:
        try:
            return self._handle.write(claim)
        except LogLostError as error:
            if isinstance(error.result, list):
                self._uncertain += error.result
            raise

    def _find_out(self) -> list[Delivery]:
        """Return the uncertain claims that are stored. No other worker would run their jobs."""
        statement = self._store.statements.is_asked
        uncertain, self._uncertain = self._uncertain, []

        def find(connection: sqlite3.Connection) -> list[Delivery]:
            return [
                delivery
                for delivery in uncertain
                if connection.execute(statement, token_of(delivery)).fetchone()
            ]

        try:
            return self._handle.read(find)
        except BaseException:
            self._uncertain += uncertain
            raise

    def _lease(self, connection: sqlite3.Connection) -> tuple[float, int] | None:
        statement = self._store.statements.lease
        row: tuple[float, int] | None = connection.execute(
            statement, (self._worker,)
        ).fetchone()
        return row

    def _is_alive(self, connection: sqlite3.Connection) -> bool:
        return is_alive(self._lease(connection), self._store.clock.monotonic())

    def _check_lease(self, lease: tuple[float, int] | None) -> None:
        if not is_alive(lease, self._store.clock.monotonic()):
            raise LeaseLost(f"worker {self._worker} has no lease any more")

    def _claim(self, connection: sqlite3.Connection, limit: int) -> list[Delivery]:
        statements = self._store.statements
        now = self._store.clock.now()
        self._promote(connection, now)
        paused = {queue for (queue,) in connection.execute(statements.paused)}
        values = to_values(lifecycle.claim(self._worker, now), now, 0)
        rows: list[Row] = []
        for queue in self._queues:
            if queue not in paused:
                guard = (queue, self._lane.value, limit - len(rows))
                given = statements.claim.values(values, guard)
                rows += connection.execute(statements.claim_next, given).fetchall()
                if len(rows) >= limit:
                    break
        # The first queue comes last in the next call, so that a full queue does not starve the
        # others.
        self._queues.extend([self._queues.pop(0)] if self._queues else ())
        # The statement returns the rows in any order.
        with suppress(TypeError):  # a damaged row may have any position
            rows.sort(key=_turn)
        return self._deliver(connection, rows)

    def _promote(self, connection: sqlite3.Connection, now: int) -> None:
        statements = self._store.statements
        due = connection.execute(statements.due, (now, HOUSEKEEPING_LIMIT)).fetchall()
        if due:
            place = take_places(connection, statements, len(due))
            rows = [
                statements.promote.values({"now": now, "place": place + n}, row)
                for n, row in enumerate(due)
            ]
            connection.executemany(statements.promote_text, rows)

    def _deliver(self, connection: sqlite3.Connection, claimed: list[Row]) -> list[Delivery]:
        if not claimed:
            return []
        statements = self._store.statements
        numbers = msgspec.json.encode([row[0] for row in claimed]).decode()
        jobs = {row[0]: row for row in connection.execute(statements.claimed_jobs, (numbers,))}
        return [to_delivery(row, jobs[row[0]], self._worker) for row in claimed]

    # --- Settling ---

    def _store_reports(
        self,
        connection: sqlite3.Connection,
        reports: Sequence[Settlement] | Sequence[Report],
        now: int,
    ) -> None:
        for report in reports:
            if has_progress(report):
                store_report(connection, self._store.statements, report, now)

    def _settle_together(self, connection: sqlite3.Connection, steps: list[_Step]) -> None:
        together: dict[Transition, list[_Step]] = defaultdict(list)
        for step in steps:
            together[step.row].append(step)
        for some in together.values():
            first, second, job = some[0].steps
            rows = [first.values(step.values, step.token) for step in some]
            try:
                changed = connection.executemany(first.text, rows).rowcount
            except sqlite3.IntegrityError as error:
                raise _NotAllHeldError from error  # two settlements for one delivery
            if changed != len(some):
                raise _NotAllHeldError
            if second is not None:
                connection.executemany(second, [step.token for step in some])
            if job is not None:
                rows = [job.values(step.values, step.token[:1]) for step in some]
                connection.executemany(job.text, rows)

    def _settle_one(self, connection: sqlite3.Connection, step: _Step) -> Status | None:
        seq = step.token[0]
        if run(connection, step.steps, step.values, step.token, seq):
            return step.row.target
        if step.otherwise is not None and step.stopped is not None:
            if run(connection, step.otherwise, step.values, step.token, seq):
                return step.stopped.target
        return None

    def _to_steps(self, settlements: Sequence[Settlement], now: int) -> list[_Step]:
        # This runs for every job, so values that are the same for a whole call are computed
        # once.
        retention, changes = self._store.retention, self._store.changes
        kept: dict[Status | None, int] = {
            status: retention.expires_at(status, now) for status in FINAL
        }
        steps = []
        for settlement in settlements:
            handle: JobHandle = settlement.delivery.handle
            attempts = () if handle.attempts is None else to_attempts(handle.attempts)
            change = lifecycle.settle(settlement, attempts, now)
            row, stopped = change.transition, change.otherwise
            token = token_of(settlement.delivery)
            if stopped is None:
                values = to_values(change, now, kept[row.target])
                step = _Step(settlement, row, changes.fenced[row], values, token)
            else:
                values = to_values(change, now, kept[stopped.target])
                first, other = changes.unless_asked[row], changes.if_asked[stopped]
                step = _Step(settlement, row, first, values, token, stopped, other)
            steps.append(step)
        return steps

    def _follow(
        self,
        connection: sqlite3.Connection,
        settlements: Sequence[Settlement],
        steps: Sequence[_Step],
        outcomes: Sequence[Status | None],
        now: int,
    ) -> list[str]:
        """Store the follow-ups of the settlements that were stored.

        :return: the ids of the follow-ups that may run at once.
        """
        ready: list[str] = []
        for settlement, step, outcome in zip(settlements, steps, outcomes, strict=True):
            if settlement.follow_ups and outcome is step.row.target:
                stored = insert_new(
                    connection, self._store.statements, settlement.follow_ups, now
                )
                ready += [one.id for one in stored if one.is_new and one.due_at is None]
        return ready


def _turn(row: Row) -> tuple[Any, ...]:
    return row[2], row[3], row[0]  # priority, place, number

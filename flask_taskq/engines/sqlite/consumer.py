"""The reading end of one worker."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from typing import Final
from typing import NamedTuple

import msgspec

from ...errors import LeaseLost
from ...jobs.delivery import Cancelled
from ...jobs.delivery import Delivery
from ...jobs.delivery import Done
from ...jobs.delivery import Expired
from ...jobs.delivery import Failed
from ...jobs.delivery import GivenBack
from ...jobs.delivery import Report
from ...jobs.delivery import Retry
from ...jobs.delivery import Settlement
from ...jobs.keeping import add_attempt
from ..base import Consumer
from ..base import HOUSEKEEPING_LIMIT
from ..base import Reported
from ..base import Settled
from .database import Handle
from .database import LogLostError
from .database import Version
from .doorbell import Listener
from .records import to_attempts
from .reports import sort_out
from .reports import tell
from .reports import tells
from .reports import token_of
from .sender import Row
from .sender import to_row
from .store import Store
from .store import take_places
from .workers import is_alive

#: How often the file is looked at, in milliseconds, besides when the doorbell rings. It finds
#: what was stored by somebody whose ring does not come through.
SELDOM: Final = 100

#: Until how long after such a find the file is looked at how often, in milliseconds.
LOOKS: Final = ((1_000, 2), (3_000, 10), (10_000, 50))

#: After this time everything is looked at again, whether or not anything has changed.
LOOK_AGAIN: Final = 1_000

Values = tuple[Any, ...]


class _Seen(NamedTuple):
    """What a look at the file has shown."""

    version: Version
    next_due: int | None
    is_ready: bool


class _Step(NamedTuple):
    """A settlement as a statement, and the one for a job that was to be cancelled."""

    delivery: Delivery
    statement: str
    values: Values
    otherwise: tuple[str, Values] | None = None
    follow_ups: Sequence[Row] = ()


class _NotAllHeldError(Exception):
    """Some of a batch were stale, or were to be cancelled. Nothing is stored then."""


class SQLiteConsumer(Consumer):
    """Claims and settles over a connection of its own, whose commits do not wait for the
    disk: what a power cut takes back is done again."""

    def __init__(
        self, store: Store, queues: Sequence[str], worker: str, isolated: bool
    ) -> None:
        self._store = store
        self._queues = list(queues)
        self._worker = worker
        self._isolated = isolated
        self._handle = Handle(store.database, synchronous="normal")
        self._listener = Listener(store.doorbell)
        self._look_statement = ""
        self._looks_at = -1  # for how many queues that statement is
        self._interrupted = False
        # When a job was last found without a ring; long ago when the doorbell is heard.
        self._unheard_at = float("-inf")
        # Claims of which it is not known whether they are stored.
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
            # Most looks find nothing, and then no lock is taken.
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

    def settle_if_held(self, settlements: Sequence[Settlement], then_fetch: int = 0) -> Settled:
        now = self._store.clock.now()
        steps = [self._step(settlement, now) for settlement in settlements]
        follows = any([settlement.follow_ups for settlement in settlements])
        telling = [settlement for settlement in settlements if tells(settlement)]
        if follows:
            steps = [
                step._replace(follow_ups=[to_row(one, now) for one in settlement.follow_ups])
                for step, settlement in zip(steps, settlements, strict=True)
            ]

        def settle_together(connection: sqlite3.Connection) -> Settled:
            for settlement in telling:
                tell(connection, self._store.statements, settlement, now)
            self._settle_together(connection, steps)
            if follows:
                rows = [row for step in steps for row in step.follow_ups]
                connection.executemany(self._store.statements.insert, rows)
            return then(connection, [])

        def settle_one_by_one(connection: sqlite3.Connection) -> Settled:
            held = []
            for settlement, step in zip(settlements, steps, strict=True):
                if tells(settlement):
                    tell(connection, self._store.statements, settlement, now)
                held.append(self._settle_one(connection, step))
            stale = [
                step.delivery for step, is_held in zip(steps, held, strict=True) if not is_held
            ]
            return then(connection, stale)

        def then(connection: sqlite3.Connection, stale: list[Delivery]) -> Settled:
            deliveries = []
            if then_fetch and self._is_alive(connection):
                deliveries = self._claim(connection, then_fetch)
            return Settled(stale, deliveries)

        try:
            try:
                settled = self._handle.write(settle_together)
            except _NotAllHeldError:
                # Which were stale or to be cancelled is seen only one by one, and from the
                # beginning: of two settlements of one delivery the second is the stale one.
                settled = self._handle.write(settle_one_by_one)
        except LogLostError as error:
            if isinstance(error.result, Settled):
                self._uncertain += error.result.deliveries
            raise
        if follows or any(isinstance(one, (Retry, GivenBack)) for one in settlements):
            self._store.doorbell.ring()
            self._listener.wake()
        return settled

    def report_if_held(self, reports: Sequence[Report]) -> Reported:
        statements = self._store.statements
        telling = [report for report in reports if tells(report)]

        def look(connection: sqlite3.Connection) -> Reported:
            return sort_out(connection, statements, reports)

        def keep(connection: sqlite3.Connection) -> Reported:
            now = self._store.clock.now()
            for report in telling:
                tell(connection, statements, report, now)
            return look(connection)

        return self._handle.write(keep) if telling else self._handle.read(look)

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
        values = (self._worker, self._worker, *queues, self._isolated)
        row = connection.execute(self._look_statement, values).fetchone()
        lease_until, lease, next_due, is_ready = row
        self._check_lease(None if lease is None else (lease_until, lease))
        return _Seen(version, next_due, bool(is_ready))

    def _wait(self, timeout: float, version: Version) -> bool:
        """Wait until there may be something to fetch.

        :return: whether somebody has written without a ring.
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

        try:
            return self._handle.write(claim)
        except LogLostError as error:
            if isinstance(error.result, list):
                self._uncertain += error.result
            raise

    def _find_out(self) -> list[Delivery]:
        """The uncertain claims that are stored: nobody else would run those jobs."""
        statement = self._store.statements.is_cancelled
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
        now = self._store.clock.now()
        self._promote(connection, now)
        rows: list[Values] = []
        for queue in self._queues:
            values = (self._worker, now, now, queue, self._isolated, limit - len(rows))
            rows += connection.execute(self._store.statements.claim, values).fetchall()
            if len(rows) >= limit:
                break
        # Whoever came first now comes last, so that a full queue starves no other.
        self._queues.extend([self._queues.pop(0)] if self._queues else ())
        # The statement returns them in any order. The columns begin with priority, place
        # and the row's number, so that no two compare further than that.
        with suppress(TypeError):  # a row is damaged: its turn may be any
            rows.sort()
        return [self._deliver(row) for row in rows]

    def _promote(self, connection: sqlite3.Connection, now: int) -> None:
        statements = self._store.statements
        due = connection.execute(statements.due, (now, HOUSEKEEPING_LIMIT)).fetchall()
        if due:
            place = take_places(connection, statements, len(due))
            rows = [(place + n, now, seq) for n, (seq,) in enumerate(due)]
            connection.executemany(statements.promote, rows)

    def _deliver(self, row: Values) -> Delivery:
        (
            priority,
            _place,
            seq,
            job_id,
            queue,
            actor,
            message,
            attempt,
            claim,
            created_at,
            crashes,
            released_since,
            releases,
            attempts,
        ) = row
        if type(message) is not bytes or not type(created_at) is type(crashes) is int:
            message, created_at, crashes = b"", 0, 0  # damaged: the job fails
        return Delivery(
            id=job_id,
            queue=queue,
            actor=actor,
            priority=priority,
            message=message,
            worker=self._worker,
            attempt=attempt,
            claim=claim,
            created_at=created_at,
            crashes=crashes,
            released_since=released_since,
            releases=releases,
            handle=(seq, attempts),
        )

    # --- Settling ---

    def _settle_together(self, connection: sqlite3.Connection, steps: list[_Step]) -> None:
        together: dict[str, list[Values]] = defaultdict(list)
        for step in steps:
            together[step.statement].append(step.values)
        settled = 0
        for statement, values in together.items():
            settled += connection.executemany(statement, values).rowcount
        if settled != len(steps):
            raise _NotAllHeldError

    def _settle_one(self, connection: sqlite3.Connection, step: _Step) -> bool:
        done = connection.execute(step.statement, step.values).rowcount == 1
        if done and step.follow_ups:
            connection.executemany(self._store.statements.insert, step.follow_ups)
        if not done and step.otherwise is not None:
            done = connection.execute(*step.otherwise).rowcount == 1
        return done

    def _step(self, settlement: Settlement, now: int) -> _Step:
        statements = self._store.statements
        delivery = settlement.delivery
        started_at = settlement.started_at
        attempts = delivery.handle[1]
        token = token_of(delivery)
        final = (now, now, self._store.expires_at(now), *token)
        values: Values
        again: Values
        match settlement:
            case Done():
                values = (settlement.result, started_at, *final)
                return _Step(delivery, statements.succeed, values)
            case Failed():
                end = (now, now, self._store.expires_at(now, failed=True), *token)
                values = (*_charged(settlement, attempts, now), *end)
                return _Step(delivery, statements.fail, values)
            case Cancelled():
                values = (*_charged(settlement, attempts, now), *final)
                return _Step(delivery, statements.give_up, values)
            case Expired():
                values = (msgspec.json.encode(settlement.error), *final)
                return _Step(delivery, statements.expire, values)
            case Retry():
                charged = _charged(settlement, attempts, now)
                again = (settlement.at, *charged, now, *token)
                stop = (statements.stop_retry, (*charged, *final))
                return _Step(delivery, statements.retry, again, stop)
            case GivenBack(at=None):
                again = (settlement.reason, now, *token)
                return _Step(
                    delivery, statements.give_back, again, (statements.stop_uncharged, final)
                )
            case GivenBack(started_at=None):
                again = (settlement.at, settlement.reason, now, now, *token)
                return _Step(
                    delivery, statements.put_off, again, (statements.stop_uncharged, final)
                )
            case GivenBack():
                again = (settlement.at, settlement.reason, now, *token)
                return _Step(
                    delivery, statements.snooze, again, (statements.stop_uncharged, final)
                )
            case _:
                raise TypeError(f"{type(settlement).__name__} is no settlement")


def _charged(
    settlement: Retry | Failed | Cancelled, attempts: bytes | None, now: int
) -> Values:
    """What a run that ended with an error leaves in its row.

    :param attempts: the attempts in the row, as they were when the job was claimed. The
        token holds only as long as nobody has changed them.
    """
    kept = add_attempt(to_attempts(attempts), settlement, now)
    encode = msgspec.json.encode
    return encode(settlement.error), encode(kept), settlement.started_at

"""The table of transitions, walked: each row of it happens, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flask_taskq.engines.base import Delivery
from flask_taskq.engines.base import Report
from flask_taskq.engines.judgement import MAX_SUSPECTS
from flask_taskq.record import Progress
from flask_taskq.record import Status
from flask_taskq.record import Transition
from flask_taskq.record import TRANSITIONS
from tests.support.bench import Bench
from tests.support.bench import cancelled
from tests.support.bench import done
from tests.support.bench import expired
from tests.support.bench import failed
from tests.support.bench import given_back
from tests.support.bench import retry

Arrangement = Callable[[Bench], "Life"]
Operation = Callable[["Life"], None]

CAUSE = "killed by signal 9"
DELAY = 1_000


class Life:
    """One job, brought to a status, on which operations are tried.

    Whatever its status, it was claimed once by ``w1``: so there is a token for the
    operations of a holder, which is an old one unless the job runs.
    """

    def __init__(self, bench: Bench, status: Status) -> None:
        self.bench = bench
        self.delivery: Delivery = bench.running("w1")
        self.id = self.delivery.id
        {
            Status.RUNNING: lambda: None,
            Status.QUEUED: self.give_back,
            Status.SCHEDULED: self.put_off,
            Status.SUCCEEDED: self.succeed,
            Status.FAILED: self.fail,
            Status.EXPIRED: self.expire,
            Status.CANCELLED: lambda: (self.give_back(), self.cancel()),
        }[status]()
        assert self.status is status

    @property
    def status(self) -> Status:
        return self.bench.status(self.id)

    # Senders

    def enqueue(self) -> None:
        self.bench.send(id=self.id)

    def enqueue_later(self) -> None:
        self.bench.send(id=self.id, delay=DELAY)

    # Workers

    def promote(self) -> None:
        # A job of a higher priority takes the place of the fetch that comes with it.
        self.bench.clock.advance(DELAY)
        decoy = self.bench.send(priority=-9)
        assert self.bench.claim("other").id == decoy

    def claim(self) -> None:
        self.bench.worker("other").fetch(10, 0)

    # The holder

    def succeed(self) -> None:
        self.bench.settle(done(self.delivery))

    def fail(self) -> None:
        self.bench.settle(failed(self.delivery))

    def give_up(self) -> None:
        self.bench.settle(cancelled(self.delivery))

    def expire(self) -> None:
        self.bench.settle(expired(self.delivery))

    def retry(self) -> None:
        self.bench.settle(retry(self.delivery, at=self.bench.clock.now() + DELAY))

    def give_back(self) -> None:
        self.bench.settle(given_back(self.delivery))

    def put_off(self) -> None:
        at = self.bench.clock.now() + DELAY
        self.bench.settle(given_back(self.delivery, at=at))

    def snooze(self) -> None:
        now = self.bench.clock.now()
        self.bench.settle(given_back(self.delivery, at=now + DELAY, started_at=now))

    def report(self) -> None:
        progress = Progress(1.0, None, None, self.bench.clock.now())
        consumer = self.bench.worker("w1")
        consumer.report_if_held([Report(delivery=self.delivery, progress=progress)])

    # The supervisor

    def die(self) -> None:
        self.bench.engine.workers.hand_back("w1", [self.id], CAUSE)

    def vanish(self) -> None:
        self.bench.clock.advance(self.bench.engine.settings.lease)
        self.bench.engine.workers.reap()

    # Anyone

    def cancel(self) -> None:
        self.bench.engine.jobs.cancel(self.id)


def crashed(times: int) -> Arrangement:
    """A running job that has seen this many crashes."""

    def make(bench: Bench) -> Life:
        life = Life(bench, Status.RUNNING)
        for _ in range(times):
            life.die()
            bench.clock.advance(10_000)
            isolated = bench.engine.workers.has_isolated(["default"])
            life.delivery = bench.claim("w1", isolated=isolated)
        return life

    return make


def suspected(bench: Bench) -> Life:
    """A running job whose next vanished worker is one too many."""
    life = Life(bench, Status.RUNNING)
    for _ in range(MAX_SUSPECTS - 1):
        life.vanish()
        life.delivery = bench.claim("w1")
    return life


def asked(bench: Bench) -> Life:
    """A running job that was asked to end."""
    life = Life(bench, Status.RUNNING)
    life.cancel()
    return life


#: How to walk each row: the status before, or how to come to it where more must hold than
#: that; what is done; the status after. Several ways for some.
WAYS: list[tuple[str, Status | Arrangement, Operation, Status]] = [
    ("promote", Status.SCHEDULED, Life.promote, Status.QUEUED),
    ("claim", Status.QUEUED, Life.claim, Status.RUNNING),
    ("succeed", Status.RUNNING, Life.succeed, Status.SUCCEEDED),
    ("retry", Status.RUNNING, Life.retry, Status.SCHEDULED),
    ("fail", Status.RUNNING, Life.fail, Status.FAILED),
    ("give up", Status.RUNNING, Life.give_up, Status.CANCELLED),
    ("expire", Status.RUNNING, Life.expire, Status.EXPIRED),
    ("give back", Status.RUNNING, Life.give_back, Status.QUEUED),
    ("put off", Status.RUNNING, Life.put_off, Status.SCHEDULED),
    ("put off", Status.RUNNING, Life.snooze, Status.SCHEDULED),
    ("reclaim", Status.RUNNING, Life.die, Status.QUEUED),
    ("reclaim", Status.RUNNING, Life.vanish, Status.QUEUED),
    ("isolate", crashed(1), Life.die, Status.SCHEDULED),
    ("bury", crashed(2), Life.die, Status.FAILED),
    ("bury", suspected, Life.vanish, Status.FAILED),
    ("cancel", Status.SCHEDULED, Life.cancel, Status.CANCELLED),
    ("cancel", Status.QUEUED, Life.cancel, Status.CANCELLED),
    ("stop", asked, Life.retry, Status.CANCELLED),
    ("stop", asked, Life.give_back, Status.CANCELLED),
    ("stop", asked, Life.put_off, Status.CANCELLED),
    ("stop", asked, Life.snooze, Status.CANCELLED),
    ("stop", asked, Life.die, Status.CANCELLED),
    ("stop", asked, Life.vanish, Status.CANCELLED),
]

OPERATIONS = [
    Life.enqueue,
    Life.enqueue_later,
    Life.promote,
    Life.claim,
    Life.succeed,
    Life.fail,
    Life.give_up,
    Life.expire,
    Life.retry,
    Life.give_back,
    Life.put_off,
    Life.snooze,
    Life.report,
    Life.die,
    Life.vanish,
    Life.cancel,
]

#: No operation of an engine leads to these yet.
UNREACHED = {Status.BLOCKED}


def rows(name: str, source: Status | None, target: Status) -> list[Transition]:
    return [row for row in TRANSITIONS if row[:3] == (name, source, target)]


@pytest.mark.parametrize("delay", [None, DELAY])
def test_a_new_job_enters_by_the_table(bench: Bench, delay: int | None) -> None:
    """It is queued or scheduled, and there is no other way in."""
    status = bench.status(bench.send(delay=delay))

    assert rows("enqueue", None, status)
    entries = {row.target for row in TRANSITIONS if row.source is None}
    assert entries == {Status.QUEUED, Status.SCHEDULED}


@pytest.mark.parametrize(("name", "arrange", "act", "target"), WAYS)
def test_a_row_of_the_table_happens(bench: Bench, name: str, arrange, act, target) -> None:
    """From its source, what it names leads to its target."""
    life = Life(bench, arrange) if isinstance(arrange, Status) else arrange(bench)
    source = life.status

    act(life)

    assert life.status is target
    assert rows(name, source, target), "the table has no such row"


@pytest.mark.parametrize("row", TRANSITIONS, ids=lambda row: f"{row.name}-{row.target}")
def test_every_row_of_the_table_is_walked(row: Transition) -> None:
    """One that is added needs a way of its own above."""
    walked = {(name, target) for name, _, _, target in WAYS}

    assert row.source is None or (row.name, row.target) in walked


def test_every_status_that_the_table_reaches_is_tried() -> None:
    """One that is added needs to be arranged above."""
    assert {row.target for row in TRANSITIONS} == set(Status) - UNREACHED


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda function: function.__name__)
@pytest.mark.parametrize("status", [item for item in Status if item not in UNREACHED])
def test_what_the_table_does_not_name_changes_nothing(
    bench: Bench, status: Status, operation: Operation
) -> None:
    """Every operation in every status: along a row, or without a trace."""
    walked = {(source, act): target for _, source, act, target in WAYS}
    life = Life(bench, status)
    before = bench.record(life.id)

    operation(life)

    after = bench.record(life.id)
    if (status, operation) in walked:
        assert after.status is walked[status, operation]
        assert after.version > before.version
    elif (status, operation) == (Status.RUNNING, Life.report):
        assert (after.status, after.progress is not None) == (Status.RUNNING, True)
    elif (status, operation) == (Status.RUNNING, Life.cancel):
        # Asking for it is written down, and no transition.
        assert (after.status, after.cancel_requested) == (Status.RUNNING, True)
    else:
        assert after == before


@pytest.mark.parametrize(
    "late",
    [
        Life.succeed,
        Life.fail,
        Life.give_up,
        Life.expire,
        Life.retry,
        Life.put_off,
        Life.snooze,
        Life.report,
    ],
)
@pytest.mark.parametrize("first", [Life.die, Life.vanish])
def test_who_lost_the_job_cannot_move_it(bench: Bench, first, late) -> None:
    """The rows of a holder need the current token, also while another one runs the job."""
    life = Life(bench, Status.RUNNING)
    first(life)
    bench.claim("w2")
    before = bench.record(life.id)

    late(life)

    assert bench.record(life.id) == before

"""The table of transitions, walked: each row of it happens, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from flask_taskq.config import Settings
from flask_taskq.jobs.delivery import Delivery
from flask_taskq.jobs.delivery import Report
from flask_taskq.jobs.lifecycle import MAX_SUSPECTS
from flask_taskq.jobs.record import JobRecord
from flask_taskq.jobs.record import Lane
from flask_taskq.jobs.record import Progress
from flask_taskq.jobs.record import Status
from flask_taskq.jobs.transitions import Transition
from flask_taskq.jobs.transitions import TRANSITIONS
from tests.support.bench import Bench
from tests.support.bench import cancelled
from tests.support.bench import done
from tests.support.bench import expired
from tests.support.bench import failed
from tests.support.bench import released
from tests.support.bench import retry
from tests.support.bench import snoozed

Arrangement = Callable[[Bench], "Life"]
Operation = Callable[["Life"], None]

CAUSE = "killed by signal 9"
COUNTERS = ("crashes", "suspects")
RESULT_TTL = Settings().result_ttl
FAILED_TTL = Settings().failed_ttl
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
            Status.QUEUED: self.release,
            Status.SCHEDULED: self.release_later,
            Status.SUCCEEDED: self.succeed,
            Status.FAILED: self.fail,
            Status.EXPIRED: self.expire,
            Status.CANCELLED: lambda: (self.release(), self.cancel()),
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

    def release(self) -> None:
        self.bench.settle(released(self.delivery))

    def release_later(self) -> None:
        at = self.bench.clock.now() + DELAY
        self.bench.settle(released(self.delivery, at=at))

    def snooze(self) -> None:
        now = self.bench.clock.now()
        self.bench.settle(snoozed(self.delivery, at=now + DELAY, started_at=now))

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

    # Operators

    def requeue(self) -> None:
        self.bench.engine.jobs.requeue(self.id)

    def delete(self) -> None:
        self.bench.engine.jobs.delete(self.id)

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
            is_alone = bench.engine.queues.has_due(["default"], Lane.ALONE)
            lane = Lane.ALONE if is_alone else Lane.ORDINARY
            life.delivery = bench.claim("w1", lane=lane)
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
WAYS: list[tuple[str, Status | Arrangement, Operation, Status | None]] = [
    ("promote", Status.SCHEDULED, Life.promote, Status.QUEUED),
    ("claim", Status.QUEUED, Life.claim, Status.RUNNING),
    ("succeed", Status.RUNNING, Life.succeed, Status.SUCCEEDED),
    ("retry", Status.RUNNING, Life.retry, Status.SCHEDULED),
    ("fail", Status.RUNNING, Life.fail, Status.FAILED),
    ("give up", Status.RUNNING, Life.give_up, Status.CANCELLED),
    ("expire", Status.RUNNING, Life.expire, Status.EXPIRED),
    ("release", Status.RUNNING, Life.release, Status.QUEUED),
    ("release later", Status.RUNNING, Life.release_later, Status.SCHEDULED),
    ("snooze", Status.RUNNING, Life.snooze, Status.SCHEDULED),
    ("reclaim", Status.RUNNING, Life.die, Status.QUEUED),
    ("reclaim", Status.RUNNING, Life.vanish, Status.QUEUED),
    ("isolate", crashed(1), Life.die, Status.SCHEDULED),
    ("fail lost", crashed(2), Life.die, Status.FAILED),
    ("fail lost", suspected, Life.vanish, Status.FAILED),
    ("cancel", Status.SCHEDULED, Life.cancel, Status.CANCELLED),
    ("cancel", Status.QUEUED, Life.cancel, Status.CANCELLED),
    ("stop", asked, Life.retry, Status.CANCELLED),
    ("stop uncharged", asked, Life.release, Status.CANCELLED),
    ("stop uncharged", asked, Life.release_later, Status.CANCELLED),
    ("stop uncharged", asked, Life.snooze, Status.CANCELLED),
    ("stop lost", asked, Life.die, Status.CANCELLED),
    ("stop lost", asked, Life.vanish, Status.CANCELLED),
    ("requeue", Status.FAILED, Life.requeue, Status.QUEUED),
    ("requeue", Status.CANCELLED, Life.requeue, Status.QUEUED),
    ("delete", Status.SCHEDULED, Life.delete, None),
    ("delete", Status.QUEUED, Life.delete, None),
    ("delete", Status.SUCCEEDED, Life.delete, None),
    ("delete", Status.FAILED, Life.delete, None),
    ("delete", Status.CANCELLED, Life.delete, None),
    ("delete", Status.EXPIRED, Life.delete, None),
]

#: Fields whose value an engine gives them in each transition.
GIVEN = {"status", "updated_at", "version"}

#: What a field is in the record of a new job.
NEW = {field.name: field.default for field in msgspec.structs.fields(JobRecord)}


def check_effects(row: Transition, before: JobRecord, after: JobRecord, now: int) -> None:
    """Each field is what the row's effects say, and the others are as they were."""
    effects = row.effects
    expected = msgspec.structs.asdict(before)
    expected.update({name: NEW[name] for name in effects.resets})
    expected["attempt"] += effects.attempt
    if effects.counts_release:
        expected["releases"] += 1
        expected["released_since"] = before.released_since or now
    if effects.lane is not None:
        expected["lane"] = effects.lane
    if row.target is Status.RUNNING:
        expected["claim"] += 1
    found = msgspec.structs.asdict(after)
    if row.target is not None and row.target.is_final:
        given_now = {"finished_at", "expires_at"}
        assert after.finished_at == now
        assert after.expires_at == now + (FAILED_TTL if row.target == "failed" else RESULT_TTL)
    else:
        given_now = set()
    assert after.updated_at == now
    assert after.version == before.version + 1
    for name in set(expected) - GIVEN - given_now - set(effects.sets):
        assert found[name] == expected[name], name
    for name in effects.sets:
        if name not in ("scheduled_for", "status_reason", *COUNTERS):
            assert found[name], name


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
    Life.release,
    Life.release_later,
    Life.snooze,
    Life.report,
    Life.die,
    Life.vanish,
    Life.cancel,
    Life.requeue,
    Life.delete,
]

#: No operation of an engine leads to these yet.
UNREACHED = {Status.BLOCKED}


def rows(name: str, source: Status | None, target: Status | None) -> list[Transition]:
    wanted = (name, source, target)
    return [row for row in TRANSITIONS if (row.name, row.source, row.target) == wanted]


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
    before = bench.record(life.id)
    source = before.status

    act(life)

    [row] = rows(name, source, target)
    after = bench.engine.jobs.get(life.id)
    assert (None if after is None else after.status) is target
    if after is not None:
        check_effects(row, before, after, bench.clock.now())


@pytest.mark.parametrize("row", TRANSITIONS, ids=lambda row: f"{row.name}-{row.target}")
def test_every_row_of_the_table_is_walked(row: Transition) -> None:
    """One that is added needs a way of its own above."""
    walked = {
        (name, source if isinstance(source, Status) else Status.RUNNING, target)
        for name, source, _, target in WAYS
    }

    assert row.source is None or (row.name, row.source, row.target) in walked


def test_every_status_that_the_table_reaches_is_tried() -> None:
    """One that is added needs to be arranged above."""
    assert {row.target for row in TRANSITIONS} - {None} == set(Status) - UNREACHED


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

    if walked.get((status, operation), status) is None:
        assert bench.engine.jobs.get(life.id) is None
        return
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
        Life.release_later,
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

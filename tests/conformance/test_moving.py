"""Final records move from one engine to another, whatever the two are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from flask_taskq.clock import Clock
from flask_taskq.config import Settings
from flask_taskq.engines import make_engine
from flask_taskq.engines.base import HOUSEKEEPING_LIMIT
from flask_taskq.engines.base import HOUSEKEEPING_SIZE
from flask_taskq.record import JobRecord
from flask_taskq.record import LogLine
from flask_taskq.record import Progress
from flask_taskq.record import Status
from tests.support.bench import Bench
from tests.support.bench import cancelled
from tests.support.bench import done
from tests.support.bench import expired
from tests.support.bench import failed
from tests.support.bench import retry
from tests.support.engines import ENGINES

#: A net under what waits for the clock, in milliseconds.
NET = 30_000

# An engine of two moves records by itself, and keeps none.
pytestmark = pytest.mark.parametrize("new_engine", ENGINES, indirect=True)


@pytest.fixture
def other(new_bench: Callable[..., Bench]) -> Bench:
    """A second engine of the kind under test, at the same time."""
    return new_bench()


def finish(bench: Bench, settle=done, **fields) -> JobRecord:
    """The record of a new job that has ended."""
    delivery = bench.running(**fields)
    bench.settle(settle(delivery))
    return bench.record(delivery.id)


def ids(records: list[JobRecord]) -> list[str]:
    return [record.id for record in records]


def test_only_what_has_ended_is_listed_as_final(bench: Bench) -> None:
    """Whatever the outcome is."""
    ends = [finish(bench, settle) for settle in (done, failed, cancelled, expired)]
    waiting = bench.send()
    bench.engine.jobs.cancel(waiting)
    ends.append(bench.record(waiting))
    bench.running()
    bench.send(delay=1_000)
    bench.send()

    listed = bench.engine.jobs.list_final()

    assert sorted(listed, key=lambda one: one.id) == sorted(ends, key=lambda one: one.id)


@pytest.mark.parametrize("settle", [done, failed])
def test_what_ended_first_is_listed_first(bench: Bench, settle) -> None:
    """Of one kind: a failed job may come before or after one that succeeded."""
    records = []
    for _ in range(3):
        records.append(finish(bench, settle))
        bench.clock.advance(1)

    assert bench.engine.jobs.list_final() == records


def test_many_final_records_are_listed_in_parts(bench: Bench, other: Bench) -> None:
    """One call is bounded; enough calls move everything, and the failed ones, too."""
    sent = bench.send_many(HOUSEKEEPING_LIMIT + 100)
    bench.settle(*map(done, bench.worker().fetch(HOUSEKEEPING_LIMIT + 50, 0)))
    bench.settle(*map(failed, bench.worker().fetch(50, 0)))

    first = bench.engine.jobs.list_final()
    other.engine.jobs.adopt(first)
    assert bench.engine.jobs.give_away(first) == len(first) == HOUSEKEEPING_LIMIT
    rest = bench.engine.jobs.list_final()

    assert sorted(ids(first + rest)) == sorted(sent)


def test_large_results_are_listed_in_smaller_parts(bench: Bench) -> None:
    """All that is listed is in memory at once. One at least is listed, however large."""
    for size in (HOUSEKEEPING_SIZE // 2, HOUSEKEEPING_SIZE // 2, HOUSEKEEPING_SIZE):
        finish(bench, lambda delivery, size=size: done(delivery, b"x" * size))

    listed = []
    while records := bench.engine.jobs.list_final():
        listed.append(len(records))
        bench.engine.jobs.give_away(records)

    assert listed == [2, 1]


@pytest.mark.parametrize("target", ENGINES)
def test_an_adopted_record_is_the_same(bench: Bench, target: str, tmp_path: Path) -> None:
    """Whichever engine it comes from, and whichever it goes to."""
    delivery = bench.running(max_attempts=3)
    bench.settle(retry(delivery, bench.clock.now()))
    delivery = bench.claim()
    lines = tuple(LogLine(n, "info", f"line {n} \x00 é", 2) for n in range(3))
    progress = Progress(1.5, 3.0, "halfway", bench.clock.now())
    bench.engine.jobs.cancel(delivery.id)
    bench.settle(failed(delivery, logs=lines, progress=progress, started_at=5))
    records = [bench.record(delivery.id), finish(bench), finish(bench, expired)]
    assert records[0].logs and records[0].attempts and records[0].cancel_requested

    settings = Settings(broker_url=ENGINES[target](tmp_path))
    with make_engine(settings, bench.clock) as engine:
        engine.connect()
        engine.jobs.adopt(records)
        assert [engine.jobs.get(one.id) for one in records] == records
        assert [engine.jobs.wait(one.id, 0) for one in records] == records
        assert [engine.jobs.cancel(one.id) for one in records] == records
        listed = sorted(engine.jobs.list_final(), key=lambda one: one.id)
        assert listed == sorted(records, key=lambda one: one.id)


@pytest.mark.parametrize("ahead", [-3_600_000, 3_600_000])
def test_a_record_is_kept_as_long_where_another_time_is(
    bench: Bench, other: Bench, ahead: int
) -> None:
    """What is left of its retention is the same, though the clocks of the two differ."""
    record = finish(bench)
    elsewhere = msgspec.structs.replace(record, expires_at=record.expires_at + ahead)

    other.engine.jobs.adopt([elsewhere], bench.clock.now() + ahead)

    assert other.record(record.id) == record


def test_a_record_does_not_change_because_clocks_are_read_inexactly(
    bench: Bench, other: Bench
) -> None:
    """Within a second two clocks are taken for the same."""
    record = finish(bench)

    other.engine.jobs.adopt([record], bench.clock.now() + 900)

    assert other.record(record.id) == record


def test_an_adopted_job_is_in_no_queue(bench: Bench, other: Bench) -> None:
    """It is over, and nobody runs it again."""
    record = finish(bench)
    other.engine.jobs.adopt([record])

    assert other.engine.queues.depths() == {}
    assert other.claim_all() == []
    assert other.engine.queues.purge("default") == 0
    assert other.record(record.id) == record


def test_adopting_twice_is_adopting_once(bench: Bench, other: Bench) -> None:
    """The first reply may have been lost; what came last is kept."""
    record = finish(bench, failed)
    newer = msgspec.structs.replace(record, version=record.version + 1, logs=())
    for one in (record, record, newer):
        other.engine.jobs.adopt([one])

    assert other.record(record.id) == newer
    assert other.engine.jobs.list_final() == [newer]


def test_an_adopted_record_is_kept_for_what_is_left_of_its_time(
    new_bench: Callable[..., Bench], bench: Bench
) -> None:
    """Not for the time that its new engine would give it."""
    other = new_bench(result_ttl=5)
    record = finish(bench)
    bench.clock.advance(1_000)
    other.engine.jobs.adopt([record])

    bench.clock.advance(record.expires_at - bench.clock.now() - 1)
    assert other.record(record.id) == record
    assert other.engine.jobs.prune() == 0
    bench.clock.advance(1)
    assert other.engine.jobs.get(record.id) is None
    assert other.engine.jobs.prune() == 1


def test_a_record_that_has_expired_is_not_adopted(bench: Bench, other: Bench) -> None:
    """It took too long; the others of the call are."""
    old = finish(bench)
    bench.clock.advance(old.expires_at - bench.clock.now())
    new = finish(bench)

    other.engine.jobs.adopt([old, new])

    assert other.engine.jobs.list_final() == [new]


def test_a_record_that_was_given_away_is_gone(bench: Bench) -> None:
    """Nothing finds it any more, and nothing counts it."""
    record, kept = finish(bench), finish(bench)

    assert bench.engine.jobs.give_away([record]) == 1

    assert bench.engine.jobs.get(record.id) is None
    assert bench.engine.jobs.wait(record.id, None) is None
    assert bench.engine.jobs.cancel(record.id) is None
    assert bench.engine.jobs.list_final() == [kept]
    assert bench.engine.jobs.give_away([record]) == 0


def test_a_record_that_has_changed_is_not_given_away(bench: Bench) -> None:
    """Only what was adopted is."""
    record, kept = finish(bench), finish(bench)
    older = msgspec.structs.replace(kept, version=kept.version - 1)

    assert bench.engine.jobs.give_away([older, record]) == 1

    assert bench.engine.jobs.list_final() == [kept]


def test_a_job_that_is_not_over_is_not_given_away(bench: Bench) -> None:
    """Nor is it when it waits to run again."""
    delivery = bench.running()
    assert bench.engine.jobs.give_away([bench.record(delivery.id)]) == 0
    bench.settle(retry(delivery, bench.clock.now()))
    assert bench.engine.jobs.give_away([bench.record(delivery.id)]) == 0

    assert bench.claim_all() == [delivery.id]


def test_sending_again_what_was_given_away_changes_nothing(bench: Bench) -> None:
    """The first call's reply may have been lost, and the job be over since."""
    envelope = bench.envelope()
    bench.engine.enqueue([envelope])
    bench.settle(done(bench.claim()))
    bench.engine.jobs.give_away([bench.record(envelope.id)])

    bench.engine.enqueue([envelope])

    assert bench.claim_all() == []
    assert bench.engine.jobs.get(envelope.id) is None


def test_what_was_given_away_can_come_back(bench: Bench, other: Bench) -> None:
    """Where it was, and with all that it had."""
    record = finish(bench, failed)
    bench.engine.jobs.give_away([record])

    bench.engine.jobs.adopt([record])

    assert bench.engine.jobs.list_final() == [record]
    assert bench.record(record.id) == record


def test_the_id_of_what_was_given_away_is_free_when_it_has_expired(
    new_bench: Callable[..., Bench],
) -> None:
    """As that of a record which had stayed."""
    bench = new_bench(Clock(), result_ttl=200)
    envelope = bench.envelope()
    bench.engine.enqueue([envelope])
    bench.settle(done(bench.claim()))
    record = bench.record(envelope.id)
    bench.engine.jobs.give_away([record])

    while bench.clock.now() < record.expires_at + NET and not bench.claim_all():
        bench.engine.jobs.prune()
        bench.engine.enqueue([envelope])

    assert bench.clock.now() >= record.expires_at
    assert bench.status(envelope.id) is Status.RUNNING

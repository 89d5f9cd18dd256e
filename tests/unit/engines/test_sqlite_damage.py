"""Rows with values that no job has: SQLite stores whatever somebody writes into them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flask_taskq.config import Settings
from flask_taskq.engines import make_engine
from flask_taskq.errors import DecodeError
from flask_taskq.jobs.lifecycle import ISOLATION_DELAY
from flask_taskq.jobs.record import Lane
from flask_taskq.jobs.record import Status
from flask_taskq.testing.clock import ManualClock
from tests.support.bench import Bench
from tests.support.bench import done
from tests.support.bench import failed

#: Assignments of an UPDATE.
DAMAGES = [
    "job SET message = 17",
    "job SET message = 'text'",
    "job SET message = x'ff00'",
    "job SET priority = 'first'",
    "live SET priority = 'first'",
    "job SET created_at = 'today'",
    "live SET crashes = 'many', suspects = 'many'",
    "job SET attempts = x'ff00'",
    "live SET progress = 17",
    "job SET logs = x'ff00'",
    "job SET error = x'ff00'",
    "job SET error = 17",
    "job SET queue = x'ff'",
    "job SET actor = x'ff'",
    "job SET max_attempts = 'three'",
]


def spoil(path: Path, change: str, job_id: str) -> None:
    """Change a row of a job behind the engine's back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        find = "seq = (SELECT seq FROM taskq_job WHERE id = ?)"
        done = connection.execute(f"UPDATE taskq_{change} WHERE {find}", (job_id,))
        assert done.rowcount == 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "taskq.sqlite3"


@pytest.fixture
def bench(path: Path, clock: ManualClock) -> Iterator[Bench]:
    bench = Bench(make_engine(Settings(broker_url=f"sqlite:///{path}"), clock))
    bench.engine.connect()
    yield bench
    bench.close()


@pytest.fixture(params=DAMAGES)
def damage(request: pytest.FixtureRequest, path: Path) -> Callable[[str], None]:
    """Damages the row of a job."""

    def damage(job_id: str) -> None:
        spoil(path, request.param, job_id)

    return damage


def test_a_damaged_row_does_not_harm_its_neighbours(
    bench: Bench, damage: Callable[[str], None]
) -> None:
    """They are fetched and settled, and so is it."""
    ids = bench.send_many(3)
    damage(ids[1])

    deliveries = bench.worker().fetch(3, 0)

    good = [delivery for delivery in deliveries if delivery.id != ids[1]]
    bad = [delivery for delivery in deliveries if delivery.id == ids[1]]
    assert {delivery.id for delivery in good} == {ids[0], ids[2]}
    assert None not in bench.settle(*map(done, good), *map(failed, bad)).outcomes
    assert bench.status(ids[0]) is bench.status(ids[2]) is Status.SUCCEEDED


@pytest.mark.parametrize("is_seen", [True, False])
def test_a_damaged_row_keeps_no_other_job_from_being_taken_from_the_dead(
    bench: Bench, damage: Callable[[str], None], is_seen: bool
) -> None:
    """Neither the other jobs of its worker, nor those of other workers."""
    ids = bench.send_many(3)
    bench.worker("w1").fetch(3, 0)
    other = bench.running("w2", queue="other")
    damage(ids[1])

    if is_seen:
        bench.engine.workers.hand_back("w1", [], "killed by signal 9")
    bench.clock.advance(bench.engine.settings.lease)
    assert bench.engine.workers.reap() == (["w2"] if is_seen else ["w1", "w2"])

    statuses = {bench.status(job_id) for job_id in (ids[0], ids[2], other.id)}
    assert statuses == {Status.QUEUED}
    assert bench.engine.workers.reap() == []


def test_a_damaged_row_keeps_no_isolated_job_waiting(
    bench: Bench, damage: Callable[[str], None]
) -> None:
    """A process is called for the others, and gets them."""
    ids = bench.send_many(2)
    for _ in range(2):
        bench.worker("w1").fetch(2, 0)
        bench.engine.workers.hand_back("w1", ids, "killed by signal 9")
    damage(ids[0])
    bench.clock.advance(ISOLATION_DELAY)

    assert bench.engine.queues.has_due(["default"], Lane.ALONE)
    assert ids[1] in bench.claim_all("solo", lane=Lane.ALONE)


@pytest.mark.parametrize(
    "change", [*DAMAGES, "live SET status = 'asleep'", "live SET version = 'x'"]
)
def test_a_damaged_row_is_told_of_by_name(bench: Bench, path: Path, change: str) -> None:
    """The caller gets an error of this package, or as much as can be read."""
    job_id = bench.send()
    spoil(path, change, job_id)

    for ask in (bench.engine.jobs.get, bench.engine.jobs.cancel):
        try:
            record = ask(job_id)
        except DecodeError as error:
            assert job_id in str(error)
        else:
            assert record is not None and record.id == job_id


def test_a_stored_error_that_is_damaged_is_said_to_be(bench: Bench, path: Path) -> None:
    """The rest of the record is shown."""
    delivery = bench.running()
    bench.settle(failed(delivery))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE taskq_job SET error = x'ff00'")
    connection.close()

    record = bench.record(delivery.id)

    assert (record.status, record.error.code) == (Status.FAILED, "malformed")

"""What the SQLite engine owes when its file or its processes have a bad day."""

from __future__ import annotations

import multiprocessing
import os
import re
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flask_taskq.clock import Clock
from flask_taskq.config import Settings
from flask_taskq.engines.base import HOUSEKEEPING_LIMIT
from flask_taskq.engines.sqlite import SQLiteEngine
from flask_taskq.engines.sqlite.database import Database
from flask_taskq.engines.sqlite.group_commit import PATIENCE
from flask_taskq.errors import BrokerConnectionError
from flask_taskq.errors import BrokerFull
from flask_taskq.errors import ConnectionClosed
from flask_taskq.errors import LeaseLost
from flask_taskq.jobs.delivery import Envelope
from flask_taskq.jobs.record import Lane
from flask_taskq.jobs.record import Status
from flask_taskq.testing.clock import ManualClock
from tests.support.bench import Bench
from tests.support.bench import done
from tests.support.bench import released
from tests.support.machine_time import machine_seconds
from tests.support.moment import Moment

Connection = sqlite3.Connection


def new_engine(path: Path, clock: Clock | None = None, **options: Any) -> SQLiteEngine:
    settings = Settings(broker_url=f"sqlite:///{path}", broker_options=options)
    return SQLiteEngine(settings, clock or Clock())


def envelope(**fields: Any) -> Envelope:
    defaults = {
        "id": os.urandom(16).hex(),
        "queue": "default",
        "actor": "add",
        "priority": 0,
        "message": b"{}",
        "created_at": 1,
    }
    return Envelope(**{**defaults, **fields})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs"


@pytest.fixture
def bench(path: Path) -> Iterator[Bench]:
    """An engine that does not wait long for a lock."""
    bench = Bench(new_engine(path, busy_timeout=50))
    yield bench
    bench.close()


@contextmanager
def outsider(path: Path) -> Iterator[Connection]:
    """Another program's connection."""
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


def integrity(path: Path) -> str:
    with outsider(path) as connection:
        found: str = connection.execute("PRAGMA integrity_check").fetchone()[0]
    return found


def stored(path: Path) -> set[str]:
    with outsider(path) as connection:
        return {job_id for (job_id,) in connection.execute("SELECT id FROM taskq_job")}


# --- The file ---


@pytest.mark.parametrize(
    "call",
    [
        lambda bench: bench.send(),
        lambda bench: bench.engine.workers.renew(["w1"]),
        lambda bench: bench.claim(),
        lambda bench: bench.settle(done(bench.delivery)),
    ],
    ids=["enqueue", "renew", "fetch", "settle"],
)
def test_a_file_that_stays_locked_is_a_clear_error(
    call: Callable[[Any], Any], bench: Any, path: Path
) -> None:
    """It names the file, and when the lock is gone everything goes on."""
    bench.delivery = bench.running()
    waiting = bench.send()
    consumer = bench.worker()
    bench.worker = lambda *args, **options: consumer  # registering would be refused, too
    with outsider(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(ConnectionClosed, match=f"{path} stayed locked"):
            call(bench)

    assert bench.status(bench.delivery.id) is Status.RUNNING
    assert bench.status(waiting) is Status.QUEUED
    call(bench)


def test_reading_does_not_wait_for_a_lock(bench: Bench, path: Path) -> None:
    """A status can be read while another process writes."""
    job_id = bench.send()
    with outsider(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert bench.status(job_id) is Status.QUEUED
        assert bench.engine.queues.depths() == {"default": 1}
        assert bench.engine.queues.has_due(["default"], Lane.ALONE) is False


def test_a_file_that_is_deleted_is_noticed_once(bench: Bench, path: Path) -> None:
    """The call says so, and the next one begins with a new file."""
    bench.send()
    path.unlink()

    with pytest.raises(ConnectionClosed, match="was deleted while it was in use"):
        bench.send()

    job_id = bench.send()
    assert stored(path) == {job_id}


def test_a_file_that_is_deleted_is_noticed_by_a_call_that_first_opens_it(
    bench: Bench, path: Path
) -> None:
    """Its own connection has seen no other file, but another one of the process has."""
    bench.send()
    path.unlink()

    with pytest.raises(ConnectionClosed, match="was deleted while it was in use"):
        bench.engine.queues.depths()

    assert bench.engine.queues.depths() == {}
    job_id = bench.send()
    assert stored(path) == {job_id}


def test_a_file_that_was_deleted_before_a_fork_is_noticed_after_it(
    bench: Bench, path: Path
) -> None:
    """A fork closes the connection that would have told."""
    bench.send()
    path.unlink()
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)

    with pytest.raises(ConnectionClosed, match="was deleted while it was in use"):
        bench.send()

    job_id = bench.send()
    assert stored(path) == {job_id}


def test_a_file_that_is_deleted_is_noticed_once_by_all_connections(
    bench: Bench, path: Path
) -> None:
    """Once one has opened the new file, so do the others, without a word."""
    bench.send()
    bench.engine.queues.depths()
    path.unlink()

    with pytest.raises(ConnectionClosed):
        bench.engine.queues.depths()

    assert bench.engine.queues.depths() == {}
    job_id = bench.send()
    assert bench.status(job_id) is Status.QUEUED


def test_a_file_that_is_replaced_is_noticed_once(
    bench: Bench, path: Path, tmp_path: Path
) -> None:
    """What is found then is what is there by then."""
    other = Bench(new_engine(tmp_path / "other"))
    job_id = other.send(id="f" * 32)
    other.close()
    bench.send()
    os.replace(tmp_path / "other", path)

    with pytest.raises(ConnectionClosed, match="was replaced by another file"):
        bench.send()

    assert bench.status(job_id) is Status.QUEUED
    assert stored(path) == {job_id}
    bench.close()
    assert integrity(path) == "ok"


def test_a_settlement_into_a_deleted_file_is_refused(bench: Bench, path: Path) -> None:
    """Nobody may believe that it was stored."""
    delivery = bench.running()
    path.unlink()
    with pytest.raises(ConnectionClosed, match="deleted"):
        bench.settle(done(delivery))


def test_a_fetch_that_waits_notices_that_the_file_is_deleted(bench: Bench, path: Path) -> None:
    """It does not wait for jobs that cannot come."""
    consumer = bench.worker()
    with ThreadPoolExecutor() as pool:
        fetching = pool.submit(consumer.fetch, 1, 60_000)
        path.unlink()
        # Or it had not begun, or had just opened the file.
        with pytest.raises((BrokerConnectionError, LeaseLost)):
            fetching.result(20)


def test_letting_go_of_a_deleted_file_does_not_touch_the_new_one(
    bench: Bench, path: Path
) -> None:
    """SQLite removes a log by its name, and that is the new file's by now."""
    old = Bench(new_engine(path))
    old.send(id="a" * 32)
    path.unlink()
    with pytest.raises(ConnectionClosed):
        old.send()
    new = Bench(new_engine(path))
    job_id = new.send(id="b" * 32)

    old.close()

    assert new.status(job_id) is Status.QUEUED
    assert stored(path) == {job_id}
    new.close()
    assert integrity(path) == "ok"


def test_a_full_disk_is_a_clear_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is stored, and with room again everything goes on."""
    limit = 40
    set_up = Database._set_up

    def with_limit(self: Database, connection: Connection, *args: Any) -> None:
        set_up(self, connection, *args)
        connection.execute(f"PRAGMA max_page_count = {limit}")

    monkeypatch.setattr(Database, "_set_up", with_limit)
    bench = Bench(new_engine(path))
    first = bench.send()
    large = bench.envelope(message=b"x" * 1_000_000)

    with pytest.raises(BrokerFull, match="no room left"):
        bench.engine.enqueue([bench.envelope(), large])

    assert stored(path) == {first}
    limit = 4_000
    bench.engine.enqueue([large])
    assert stored(path) == {first, large.id}
    bench.close()


def test_a_connection_that_somebody_was_torn_away_from_while_closing_it_is_opened_again(
    bench: Bench,
) -> None:
    """The next caller is not affected."""
    bench.send()
    sender = bench.engine._store.sender  # type: ignore[attr-defined]
    sender._connection.close()

    assert bench.status(bench.send()) is Status.QUEUED


def test_a_batch_that_breaks_off_leaves_nothing_half_done(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settlements and claims are stored together or not at all."""
    delivery = bench.running()
    waiting = bench.send()
    consumer: Any = bench.worker()

    def torn(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(consumer, "_deliver", torn)
        with pytest.raises(KeyboardInterrupt):
            consumer.settle_if_held([done(delivery)], 1)

    assert bench.status(delivery.id) is Status.RUNNING
    assert bench.status(waiting) is Status.QUEUED
    settled = consumer.settle_if_held([done(delivery)], 1)
    assert None not in settled.outcomes
    assert [again.id for again in settled.deliveries] == [waiting]


# --- Threads ---


def test_callers_that_wait_together_are_committed_together(
    bench: Bench, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight threads that come while a commit runs need one more, not eight."""
    sender: Any = bench.engine._store.sender  # type: ignore[attr-defined]
    groups = []
    store = sender._store
    monkeypatch.setattr(
        sender, "_store", lambda calls: (groups.append(len(calls)), store(calls))
    )
    begun, go_on = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        begun.set()
        assert go_on.wait(20)

    with ThreadPoolExecutor(9) as pool:
        holding = pool.submit(sender.write, hold)
        assert begun.wait(20)
        sending = [pool.submit(bench.send) for _ in range(8)]
        wait_until(lambda: len(sender._waiting) == 8)
        go_on.set()
        ids = {future.result(20) for future in [*sending]}
        holding.result(20)

    assert groups == [8]
    assert stored(path) == ids


def wait_until(condition: Callable[[], bool]) -> None:
    """Look again and again, since nobody tells; a net of 20 seconds."""
    nobody = threading.Event()
    for _ in range(20_000):
        if condition():
            return
        nobody.wait(0.001)
    raise AssertionError("it did not come to that")


def test_the_error_of_one_caller_is_his_own(bench: Bench, path: Path) -> None:
    """The others of his group are stored, and he learns what was wrong."""
    store: Any = bench.engine._store  # type: ignore[attr-defined]
    begun, go_on = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        begun.set()
        assert go_on.wait(20)

    good = [envelope() for _ in range(4)]
    with ThreadPoolExecutor(6) as pool:
        holding = pool.submit(store.sender.write, hold)
        assert begun.wait(20)
        sending = [pool.submit(bench.engine.enqueue, [one]) for one in good]
        failing = pool.submit(bench.engine.enqueue, [envelope(), envelope(priority=2**70)])
        wait_until(lambda: len(store.sender._waiting) == 5)
        go_on.set()
        for future in [holding, *sending]:
            future.result(20)
        with pytest.raises(OverflowError):
            failing.result(20)

    assert stored(path) == {one.id for one in good}


def test_a_leader_that_is_torn_out_loses_nobodys_jobs(
    bench: Bench, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A time limit may be raised into the very thread that commits for the others."""
    sender: Any = bench.engine._store.sender  # type: ignore[attr-defined]
    store = sender._store
    torn = []

    def tear_the_first(calls: Any) -> None:
        if not torn:
            torn.append(calls)
            raise KeyboardInterrupt
        store(calls)

    monkeypatch.setattr(sender, "_store", tear_the_first)
    jobs = [envelope() for _ in range(8)]

    def send(job: Envelope) -> str | None:
        try:
            bench.engine.enqueue([job])
        except KeyboardInterrupt:
            return None
        return job.id

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(send, jobs))

    assert None in ids
    assert ids - {None} <= stored(path)
    assert len(ids) == 8


# --- Processes ---


def fork(child: Callable[[], None]) -> int:
    with warnings.catch_warnings():
        # From Python 3.12 on: a fork of a process with threads, which is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child()
            status = 0
        finally:
            os._exit(status)
    return pid


def test_processes_that_start_at_once_on_a_new_file_lose_nothing(path: Path) -> None:
    """F50: of sixteen the first one makes the schema, and all of them send without an error."""
    ready = multiprocessing.get_context("fork").Barrier(16)

    def send() -> None:
        with new_engine(path) as engine:
            ready.wait(60)
            for _ in range(20):
                engine.enqueue([envelope()])

    children = [fork(send) for _ in range(16)]

    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 16
    assert len(stored(path)) == 16 * 20
    assert integrity(path) == "ok"


def test_parent_and_child_of_a_fork_both_send(path: Path) -> None:
    """Though the fork came while other threads were sending."""
    bench = Bench(new_engine(path))
    stop = threading.Event()
    sent: list[str] = []

    def send(count: int | None = None) -> None:
        while not stop.is_set() if count is None else count > 0:
            job = envelope()
            bench.engine.enqueue([job])
            sent.append(job.id)
            count = None if count is None else count - 1

    with ThreadPoolExecutor(4) as pool:
        sending = [pool.submit(send) for _ in range(4)]
        children = [fork(lambda: send(100)) for _ in range(3)]
        statuses = [os.waitpid(child, 0)[1] for child in children]
        stop.set()
        for future in sending:
            future.result(20)

    assert statuses == [0, 0, 0]
    assert set(sent) <= stored(path)
    assert len(stored(path)) == len(sent) + 3 * 100
    bench.close()
    assert integrity(path) == "ok"


def test_a_fork_in_the_midst_of_a_transaction_harms_neither_side(
    bench: Bench, path: Path
) -> None:
    """F51: it waits for the transaction of another thread, and both sides go on."""
    begun, forking = threading.Event(), threading.Event()
    os.register_at_fork(before=forking.set)

    def hold() -> None:
        begun.set()
        assert forking.wait(20)

    bench.send(id="a" * 32)
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(bench.send, id="b" * 32, actor=Moment("add", hold))
        assert begun.wait(20)

        def child() -> None:
            bench.send(id="c" * 32)
            assert bench.status("b" * 32) is Status.QUEUED

        pid = fork(child)
        bench.send(id="d" * 32)
        sending.result(20)
    assert os.waitpid(pid, 0)[1] == 0

    assert stored(path) == {letter * 32 for letter in "abcd"}
    bench.close()
    assert integrity(path) == "ok"


def test_a_child_that_outlives_its_parent_connection_loses_nothing(
    bench: Bench, path: Path
) -> None:
    """The library in the child must not rely on locks that only the parent had."""
    first = bench.send()
    to_child, from_parent = os.pipe()
    from_child, to_parent = os.pipe()

    def child() -> None:
        bench.engine.enqueue([envelope(id="c" * 32)])
        os.write(to_parent, b"x")
        os.read(to_child, 1)
        bench.engine.enqueue([envelope(id="d" * 32)])

    pid = fork(child)
    os.read(from_child, 1)
    bench.engine.close()
    third = Bench(new_engine(path))
    third.send(id="e" * 32)
    third.close()
    os.write(from_parent, b"x")
    assert os.waitpid(pid, 0)[1] == 0
    for descriptor in (to_child, from_parent, from_child, to_parent):
        os.close(descriptor)

    assert stored(path) == {first, "c" * 32, "d" * 32, "e" * 32}
    assert integrity(path) == "ok"


def test_a_fork_leaves_a_consumer_of_the_parent_alone(bench: Bench, path: Path) -> None:
    """It goes on listening and fetching, and its socket stays."""
    consumer = bench.worker()
    consumer.fetch(1, 1)
    names = os.listdir(f"{path}.taskq")

    assert os.waitpid(fork(consumer.close), 0)[1] == 0

    assert os.listdir(f"{path}.taskq") == names
    job_id = bench.send()
    assert [delivery.id for delivery in consumer.fetch(1, 60_000)] == [job_id]


# --- Time, and size ---


def test_a_lease_from_before_the_machine_was_started_is_over(path: Path) -> None:
    """The monotonic clock began anew, and the old end is far in its future."""
    before = ManualClock()
    before.advance(1_000_000_000)
    bench = Bench(new_engine(path, before))
    delivery = bench.running()
    bench.close()

    bench = Bench(new_engine(path, ManualClock()))

    assert bench.engine.workers.reap() == ["w1"]
    assert bench.status(delivery.id) is Status.QUEUED
    bench.close()


def test_more_jobs_than_one_call_promotes_all_become_ready(path: Path) -> None:
    """Housekeeping is bounded, and comes again."""
    clock = ManualClock()
    bench = Bench(new_engine(path, clock))
    ids = bench.send_many(HOUSEKEEPING_LIMIT + 10, delay=5)
    clock.advance(5)

    consumer = bench.worker()
    fetched = [delivery.id for _ in range(2) for delivery in consumer.fetch(1_000, 0)]

    assert fetched == ids
    bench.close()


def test_no_queue_starves_beside_a_full_one(bench: Bench) -> None:
    """They take turns at being first."""
    bench.send_many(10, queue="full")
    [rare] = bench.send_many(1, queue="rare")
    consumer = bench.worker(queues=["full", "rare"])

    fetched = [delivery.id for _ in range(2) for delivery in consumer.fetch(1, 0)]

    assert rare in fetched


def test_room_is_given_back_after_pruning(path: Path) -> None:
    """A file that was large once does not stay so."""
    clock = ManualClock()
    bench = Bench(new_engine(path, clock))
    for _ in range(2):
        bench.send_many(HOUSEKEEPING_LIMIT, message=b"x" * 20_000)
    while deliveries := bench.worker().fetch(500, 0):
        bench.settle(*map(done, deliveries))

    clock.advance(bench.engine.settings.result_ttl)
    while bench.engine.jobs.prune():
        pass
    before = pages(path)
    while True:
        bench.engine.jobs.prune()
        after = pages(path)
        if after == before:
            break
        before = after

    assert stored(path) == set()
    assert after < 2_500
    bench.close()


def pages(path: Path) -> int:
    with outsider(path) as connection:
        found: int = connection.execute("PRAGMA page_count").fetchone()[0]
    return found


def test_jobs_that_are_alive_are_found_by_an_index(bench: Bench, path: Path) -> None:
    """However long the history, no statement of a worker reads all of it."""
    bench.send()
    store = bench.engine._store  # type: ignore[attr-defined]
    statements = store.statements
    looks = [
        statements.claim_next,
        statements.claim_one,
        statements.claimed_jobs,
        statements.due,
        statements.held,
        statements.expired,
        statements.get,
        statements.known,
        statements.key_holder,
        statements.look(2),
        statements.has_due(2),
        statements.queues,
        statements.oldest,
        statements.running_page,
        statements.queued_page,
        statements.scheduled_page,
        statements.ended_page,
        *statements.depths,
        *(steps.first.text for steps in store.changes.fenced.values()),
        *filter(None, (steps.second for steps in store.changes.fenced.values())),
    ]
    with outsider(path) as connection:
        for statement in looks:
            values = [None] * statement.count("?")
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
            for _, _, _, step in plan:
                is_scan = re.match(r"SCAN (taskq_(?!pause)\w+|[jlo])\b", step)
                assert not is_scan or "INDEX" in step, statement


def test_a_job_given_back_wakes_consumers_of_other_processes(bench: Bench, path: Path) -> None:
    """A give-back rings like an enqueue."""
    delivery = bench.running()
    other = Bench(new_engine(path))
    consumer = other.worker("w2")
    with ThreadPoolExecutor() as pool:
        fetching = pool.submit(consumer.fetch, 1, 60_000)
        bench.settle(released(delivery))
        assert [again.id for again in fetching.result(20)] == [delivery.id]
    other.close()


class Meddling(Clock):
    """Lets something happen in the first wait, and passes the others over."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], None] = lambda: None

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return False


@pytest.mark.parametrize("how", ["fork", "close"])
def test_who_waits_sees_what_was_stored_while_the_connection_was_opened_anew(
    bench: Bench, path: Path, how: str
) -> None:
    """What SQLite counts begins anew with each connection, and may look as it did before."""
    delivery = bench.running()
    clock = Meddling()
    other = new_engine(path, clock)

    def end_it() -> None:
        bench.settle(done(delivery))
        if how == "fork":
            assert os.waitpid(fork(lambda: None), 0)[1] == 0
        else:
            other.close()

    clock.meanwhile = end_it
    record = other.jobs.wait(delivery.id, 2_000)
    assert record is not None and record.status is Status.SUCCEEDED
    other.close()


def test_a_fork_wakes_those_who_wait_for_their_turn(bench: Bench, path: Path) -> None:
    """They are not left to find out by themselves that the connection is free again."""
    store: Any = bench.engine._store  # type: ignore[attr-defined]
    resting = store.sender.rest()
    next(resting)
    with ThreadPoolExecutor() as pool:
        sending = [pool.submit(bench.send) for _ in range(2)]
        wait_until(lambda: len(store.sender._waiting) == 2)
        began = time.monotonic()
        resting.close()
        ids = {future.result(20) for future in sending}
    assert machine_seconds(began) < PATIENCE / 2
    assert ids <= stored(path)

"""Cancelling jobs, whatever state they are in."""

import asyncio
import logging
import threading
import time

import pytest

from flask_taskq import current_job
from flask_taskq import Middleware
from flask_taskq import Status
from flask_taskq.clock import Clock
from flask_taskq.errors import JobCancelled
from flask_taskq.errors import LeaseLost
from flask_taskq.errors import ResultFailure
from flask_taskq.errors import TimeLimitExceeded
from flask_taskq.jobs.delivery import Released
from flask_taskq.jobs.delivery import Retried
from flask_taskq.worker.stored_outcomes import announce
from flask_taskq.worker.stored_outcomes import announce_stored
from tests.support.apps import declare
from tests.support.apps import Line
from tests.support.apps import messages
from tests.support.apps import Watcher

PATIENCE = 20
LONG = 20_000


@pytest.fixture
def broker(new_broker):
    return new_broker(Clock(), min_backoff=0)


@pytest.fixture
def start(start_worker, broker):
    """Starts workers that are looked after until the test is over."""
    threads, over = [], threading.Event()

    def look_after(worker):
        while not over.wait(0.05):
            worker.tick()

    def start(**options):
        worker = start_worker(broker, **options)
        threads.append(threading.Thread(target=look_after, args=(worker,)))
        threads[-1].start()
        return worker

    yield start
    over.set()
    for thread in threads:
        thread.join()


class Begun:
    """An actor that tells when it runs."""

    def __init__(self, broker, fn, **options):
        self.event = threading.Event()
        self.runs = 0

        def run():
            self.runs += 1
            self.event.set()
            return fn()

        self.actor = declare(broker, run, actor_name="begun", **options)

    def send(self):
        job = self.actor.send()
        assert self.event.wait(PATIENCE)
        return job


def spin():
    while True:
        pass


def ask():
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        current_job.check_cancelled()


@pytest.mark.every_engine
@pytest.mark.needs("CurrentJob")
def test_a_running_job_is_told_where_it_asks(broker, start, final):
    """Before anything is raised in it: it ends where it finds it best."""
    seen = []

    def careful():
        try:
            ask()
        except JobCancelled:
            seen.append("cleaned up")
            raise

    begun = Begun(broker, careful)
    start()
    job = begun.send()
    job.cancel()
    record = final(job)
    assert (record.status, record.error.code) == (Status.CANCELLED, "cancelled")
    assert seen == ["cleaned up"]
    with pytest.raises(ResultFailure):
        job.get_result()


@pytest.mark.every_engine
def test_a_running_job_that_does_not_ask_is_interrupted(broker, start, final):
    """A moment later."""
    begun = Begun(broker, spin)
    start()
    job = begun.send()
    job.cancel()
    record = final(job)
    assert (record.status, record.error.type) == (Status.CANCELLED, "JobCancelled")
    assert begun.runs == 1


@pytest.mark.every_engine
@pytest.mark.needs("CurrentJob")
def test_a_running_coroutine_is_cancelled(broker, start, final):
    """It sees what a cancelled task sees."""
    begun, seen = threading.Event(), []

    @declare(broker)
    async def waits():
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append(current_job.interrupted_by)
            raise

    start()
    job = waits.send()
    assert begun.wait(PATIENCE)
    job.cancel()
    assert final(job).status is Status.CANCELLED
    assert seen == [JobCancelled]


@pytest.mark.needs("CurrentJob")
def test_a_cooperative_job_is_never_interrupted(broker, start, final):
    """It may be in the middle of what must not be left half done."""
    rounds = []

    def stubborn():
        until = time.monotonic() + PATIENCE
        while current_job.interrupted_by is None and time.monotonic() < until:
            pass
        at = time.monotonic()
        while time.monotonic() < at + 1.2:  # longer than others are left alone
            rounds.append(1)
        return "ended well"

    begun = Begun(broker, stubborn, cooperative=True)
    start()
    job = begun.send()
    job.cancel()
    record = final(job)
    assert (record.status, record.result) == (Status.SUCCEEDED, b'"ended well"')


@pytest.mark.needs("CurrentJob")
def test_a_job_that_ends_well_all_the_same_has_succeeded(broker, start, final):
    """Cancelling came too late, and its outcome is there."""

    def finish():
        try:
            ask()
        except JobCancelled:
            return "all done"

    begun = Begun(broker, finish)
    start()
    job = begun.send()
    job.cancel()
    record = final(job)
    assert (record.status, record.result) == (Status.SUCCEEDED, b'"all done"')
    assert record.cancel_requested


@pytest.mark.needs("Callbacks", "CurrentJob")
def test_what_a_cancelled_job_raises_is_no_reason_to_run_it_again(broker, start, final):
    """Nor is it a failure."""
    failures = []
    on_failure = declare(broker, lambda *args: failures.append(args), actor_name="on_failure")

    def breaks():
        try:
            ask()
        except JobCancelled:
            raise ValueError("while cleaning up") from None

    begun = Begun(broker, breaks, on_failure=on_failure.actor_name)
    worker = start()
    job = begun.send()
    job.cancel()
    record = final(job)
    assert (record.status, record.error.type) == (Status.CANCELLED, "ValueError")
    worker.stop(LONG)
    assert (begun.runs, failures) == (1, [])


@pytest.mark.needs("CurrentJob")
@pytest.mark.parametrize("ends", [True, False], ids=["in time", "never"])
def test_a_cancelled_job_whose_time_is_over_is_cancelled(
    new_broker, start_worker, final, monkeypatch, ends
):
    """And has not failed: nobody waits for it any more."""
    monkeypatch.setattr("flask_taskq.worker.threads.settler._CANCEL_PATIENCE", LONG)
    broker = new_broker(Clock(), max_retries=0)
    told, go = threading.Event(), threading.Event()

    def run():
        while current_job.interrupted_by is None:
            pass
        told.set()
        while not go.is_set():
            try:
                go.wait(0.01)
            except TimeLimitExceeded:
                if ends:
                    raise

    begun = Begun(broker, run)
    worker = start_worker(broker)
    job = begun.send()
    job.cancel()
    worker.tick()
    assert told.wait(PATIENCE)
    [current] = worker.runs
    current.limit_at = 0
    if not ends:
        current.kill_at = 0
    worker._interrupter.expect(0)
    try:
        record = final(job)
        assert (record.status, record.error.code) == (Status.CANCELLED, "cancelled")
        assert record.error.type == "TimeLimitExceeded"
    finally:
        go.set()


@pytest.mark.needs("Retries")
def test_a_job_that_waits_for_a_retry_is_cancelled_at_once(broker, start):
    """It does not run again."""
    failed = threading.Event()

    class Noting(Watcher):
        def after_ack(self, broker, message):
            failed.set()

    broker.add_middleware(Noting())

    @declare(broker, min_backoff=3_600_000)
    def fails():
        raise ValueError

    start()
    job = fails.send()
    assert failed.wait(PATIENCE)
    assert job.refresh().status is Status.SCHEDULED
    job.cancel()
    assert job.status is Status.CANCELLED
    assert [one.number for one in job.record.attempts] == [1]


@pytest.mark.needs("CurrentJob")
def test_hooks_hear_that_a_running_job_was_cancelled(broker, start, final):
    """As the exception of the run, which is discarded."""
    heard = {}

    class Hearing(Watcher):
        def after_process_message(self, broker, message, *, result=None, exception=None):
            heard["told"] = (message.discarded, type(exception).__name__)

    broker.add_middleware(Hearing())
    begun = Begun(broker, ask)
    start()
    job = begun.send()
    job.cancel()
    final(job)
    assert heard == {"told": (True, "JobCancelled")}


@pytest.mark.needs("CurrentJob")
def test_a_run_whose_job_was_taken_away_is_told(broker, start):
    """Whatever it does from now on is for nothing: another worker has the job."""
    seen, ended = [], threading.Event()

    def works():
        try:
            ask()
        except LeaseLost:
            seen.append("told")
            raise
        finally:
            ended.set()

    begun = Begun(broker, works)
    worker = start()
    job = begun.send()
    [run] = worker.runs
    worker._consumer.settle_if_held([Released(delivery=run.delivery, at=2**45)])
    assert ended.wait(PATIENCE)
    assert seen == ["told"]
    assert job.refresh().status is Status.SCHEDULED


def test_a_worker_that_lost_its_lease_tells_its_runs(broker, start):
    """All of them, within a moment of waking up."""
    ended = threading.Event()

    def works():
        try:
            spin()
        except LeaseLost:
            ended.set()
            raise

    begun = Begun(broker, works)
    worker = start()
    begun.send()
    broker.engine.workers.hand_back(worker.id, (), "taken for dead")
    worker.slots.renewed_at -= 25_000
    assert ended.wait(PATIENCE)


def test_a_rerun_that_became_a_cancellation_is_told_as_one(clock, new_broker, caplog):
    """By the log, and by the hook of cancelling: nobody says that it runs again."""
    told = []

    class Listening(Middleware):
        def after_cancel(self, broker, record):
            told.append((record.id, record.status))

    line = Line(new_broker(clock, Listening(), max_retries=3))
    caplog.set_level(logging.INFO, "flask_taskq.jobs")

    @declare(line.broker)
    def fails():
        line.engine.jobs.cancel(job.id)
        raise LookupError("no")

    job = fails.send()
    line.engine.workers.register("w1")
    consumer = line.engine.consumer(["default"], "w1")
    settlement = line.runner.run(consumer.fetch(1, 0)[0])
    assert isinstance(settlement, Retried)
    announce(line.broker, [settlement])
    announce_stored(line.broker, [settlement], consumer.settle_if_held([settlement]))

    assert told == [(job.id, Status.CANCELLED)]
    [text] = messages(caplog, logging.INFO)
    assert f"job {job.id} cancelled, as was asked while it ran" in text
    assert "again" not in text


def test_an_outcome_that_was_refused_is_told_to_nobody(clock, new_broker, caplog):
    """But to the log, as what it is."""
    line = Line(new_broker(clock))
    caplog.set_level(logging.INFO)
    declare(line.broker, lambda: None, actor_name="works")
    job = line.broker.actors["works"].send()
    line.engine.workers.register("w1")
    consumer = line.engine.consumer(["default"], "w1")
    settlement = line.runner.run(consumer.fetch(1, 0)[0])
    line.engine.workers.hand_back("w1", [], "stopped")

    announce_stored(line.broker, [settlement], consumer.settle_if_held([settlement]))

    [text] = messages(caplog, logging.WARNING)
    assert f"job {job.id}: the settlement came too late and was refused" in text
    assert not [one for one in messages(caplog, logging.INFO) if "succeeded" in one]

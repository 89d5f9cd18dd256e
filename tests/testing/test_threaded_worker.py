"""A worker in threads, for the length of a block of a test."""

from __future__ import annotations

import logging
import threading

import pytest

from flask_taskq import signals
from flask_taskq import Status

PATIENCE = 10
HOUR = 3_600_000


@pytest.fixture
def hold(taskq):
    """An actor that stays until it is let go."""

    class Hold:
        def __init__(self):
            self.begun = threading.Semaphore(0)
            self.go = threading.Event()
            self.actor = taskq.actor(self._run, actor_name="hold")

        def _run(self):
            self.begun.release()
            for _ in range(100 * PATIENCE):
                # In short waits, because nothing can be raised into a long one.
                if self.go.wait(0.01):
                    return
            raise AssertionError("nobody let it go")

    hold = Hold()
    yield hold
    hold.go.set()


def test_jobs_run_while_the_block_goes_on(jobs, note):
    """In other threads than the test's."""
    with jobs.worker():
        assert note("a").get_result(block=True, timeout=1_000 * PATIENCE) == "a"


def test_the_end_of_the_block_waits_for_all_jobs(jobs, taskq, app, ran):
    """Also for those that they send."""

    @taskq.actor
    def count(n):
        ran.append(n)
        if n:
            count.send(n - 1)

    with jobs.worker(), app.app_context():
        count.send(5)
    assert ran == [5, 4, 3, 2, 1, 0]


def test_jobs_that_were_sent_before_the_block_run_in_it(jobs, note, ran):
    """A view was called, and then a worker came."""
    note("a")
    with jobs.worker():
        pass
    assert ran == ["a"]


def test_a_test_can_wait_inside_the_block(jobs, note, ran):
    """Until nothing may run, as often as it likes."""
    with jobs.worker() as worker:
        worker.wait_until_idle()
        for n in range(3):
            note(n)
            worker.wait_until_idle()
            assert ran == list(range(n + 1))


def test_several_jobs_run_at_the_same_time(jobs, app, hold):
    """As many as there are threads."""
    with jobs.worker(threads=3), app.app_context():
        for _ in range(3):
            hold.actor.send()
        for _ in range(3):
            assert hold.begun.acquire(timeout=PATIENCE)
        hold.go.set()


def test_what_is_not_due_is_not_waited_for(jobs, note, ran):
    """It is there afterwards."""
    with jobs.worker():
        note("later", delay=HOUR)
    assert ran == []
    jobs.assert_enqueued("note", args=("later",))


def test_a_job_runs_when_the_test_moves_the_time_on(jobs, note, ran):
    """The worker, which waits for that time, wakes up."""
    with jobs.worker() as worker:
        note("later", delay=HOUR)
        worker.wait_until_idle()
        jobs.advance(HOUR)
        worker.wait_until_idle()
        assert ran == ["later"]


def test_a_move_beyond_the_lease_takes_no_job_away(jobs, app, hold, note, caplog):
    """The worker renews it at once; the jobs that it runs keep their outcome."""
    with jobs.worker() as worker, app.app_context():
        held = hold.actor.send()
        assert hold.begun.acquire(timeout=PATIENCE)
        jobs.advance(24 * HOUR)
        hold.go.set()
        worker.wait_until_idle()
        assert held.refresh().status is Status.SUCCEEDED
        assert note("next").get_result(block=True) == "next"
    said = [record for record in caplog.records if record.name.startswith("flask_taskq.worker")]
    assert [record for record in said if record.levelno >= logging.WARNING] == []


def test_a_lease_is_renewed_while_the_block_goes_on(jobs, taskq, app, monkeypatch):
    """By the worker itself: it has no supervisor."""
    monkeypatch.setattr("flask_taskq.testing.threaded_worker._TICK", 0.01)
    renewed = threading.Event()
    workers = taskq.broker_for(app).engine.workers
    renew = workers.renew
    monkeypatch.setattr(workers, "renew", lambda names: renewed.set() or renew(names))
    with jobs.worker():
        # Past the test's own advance(), which would renew at once.
        jobs.clock.advance(25_000)
        assert renewed.wait(PATIENCE)


def test_a_block_that_fails_ends_at_once(jobs, app, hold):
    """Its own error is shown, and what was running goes back."""
    with app.app_context(), pytest.raises(ZeroDivisionError):
        with jobs.worker():
            job = hold.actor.send()
            assert hold.begun.acquire(timeout=PATIENCE)
            raise ZeroDivisionError
    assert (job.refresh().status, job.record.attempt) == (Status.QUEUED, 0)


def test_waiting_for_a_job_that_does_not_end_fails(jobs, app, hold):
    """It says which one."""
    with jobs.worker() as worker, app.app_context():
        hold.actor.send()
        assert hold.begun.acquire(timeout=PATIENCE)
        expected = r"1 job has not ended after 50 ms: hold \(running\)"
        with pytest.raises(AssertionError, match=expected):
            worker.wait_until_idle(timeout=50)
        hold.go.set()


def test_a_test_runs_no_jobs_beside_the_worker(jobs, note):
    """Which of the two had a job would be chance."""
    with jobs.worker():
        for run in (jobs.run_next, jobs.drain, jobs.worker().__enter__):
            with pytest.raises(RuntimeError, match="a worker is running the jobs already"):
                run()
    assert jobs.drain() == []


@pytest.mark.needs("Retries")
def test_a_202_can_be_followed_while_a_worker_runs(jobs, app, taskq, note):
    """Then the worker runs the job, and the time moves on for its retry."""

    @app.post("/notes")
    def create_note():
        return taskq.accepted(taskq.broker.get_actor("note").send("a"))

    client = app.test_client()
    with jobs.worker():
        jobs.fail_next(ValueError)
        job = jobs.follow(client, client.post("/notes")).json
        assert (job["result"], job["attempt"]) == ("a", 2)


@pytest.mark.needs("Retries")
def test_a_job_fails_in_a_worker_as_the_test_wants(jobs, note, ran):
    """One mishap for one job, whichever thread has it."""
    with jobs.worker(threads=4) as worker:
        jobs.fail_next(ValueError)
        sent = [note(n) for n in range(8)]
        worker.wait_until_idle()
        left = [job for job in sent if job.refresh().status is Status.SCHEDULED]
        assert len(left) == 1
        jobs.advance(HOUR)
    assert sorted(ran) == list(range(8))


def test_a_job_crashes_in_a_worker_as_the_test_wants(jobs, note, ran):
    """It runs again, in the same worker under another lease."""
    with jobs.worker(threads=1):
        jobs.crash_next()
        job = note("a")
    assert ran == ["a", "a"]
    assert (job.refresh().status, job.record.crashes) == (Status.SUCCEEDED, 1)


def test_the_apps_signals_tell_of_the_worker(jobs, app):
    """As in production."""
    heard = []
    signals.worker_started.connect(lambda app, **_: heard.append("started"), app, weak=False)
    signals.worker_stopping.connect(lambda app, **_: heard.append("stopping"), app, weak=False)
    with jobs.worker():
        assert heard == ["started"]
    assert heard == ["started", "stopping"]


def test_one_worker_follows_another(jobs, note, ran):
    """Each block has its own."""
    for n in range(3):
        with jobs.worker():
            note(n)
    assert ran == [0, 1, 2]

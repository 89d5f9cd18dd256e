"""``drain()``: what is queued, here and now."""

import asyncio
import threading

import pytest
from flask import current_app
from flask import Flask
from flask import g
from flask_sqlalchemy import SQLAlchemy

from flask_taskq import current_job
from flask_taskq import Middleware
from flask_taskq import Status
from flask_taskq import TaskQ
from flask_taskq.errors import ConfigurationError
from flask_taskq.testing import drain
from tests.support.apps import make_app
from tests.support.apps import Watcher


@pytest.fixture
def taskq(clock):
    return TaskQ(clock=clock)


@pytest.fixture
def app(taskq):
    return make_app(taskq)


@pytest.fixture
def ran(taskq):
    """Names of what ran; ``note`` is the actor that notes them."""
    names = []

    @taskq.actor
    def note(name):
        names.append(name)

    return names


@pytest.fixture
def note(ran, app, taskq):
    def send(name, **options):
        with app.app_context():
            actor = taskq.broker.get_actor("note")
            return actor.send_with_options(args=(name,), **options)

    return send


def test_an_empty_queue_is_drained_at_once(app):
    """Nothing ran."""
    assert drain(app) == []


def test_jobs_run_in_the_order_in_which_they_were_sent(app, note, ran):
    """The handles come in that order, too."""
    jobs = [note(name) for name in "abc"]
    assert [job.id for job in drain(app)] == [job.id for job in jobs]
    assert ran == ["a", "b", "c"]


def test_jobs_run_by_priority_first(app, taskq, note, ran):
    """As in a worker."""
    urgent = taskq.actor(lambda: ran.append("urgent"), actor_name="urgent", priority=-1)
    note("a")
    with app.app_context():
        urgent.send()
    drain(app)
    assert ran == ["urgent", "a"]


def test_jobs_of_all_queues_run(app, taskq, note, ran):
    """Those of all actors."""
    slow = taskq.actor(lambda: ran.append("slow"), actor_name="slow", queue_name="slow")
    with app.app_context():
        slow.send()
    note("a")
    assert len(drain(app)) == 2
    assert sorted(ran) == ["a", "slow"]


def test_jobs_that_jobs_send_run(app, taskq, ran):
    """Until none is left."""

    @taskq.actor
    def count(n):
        ran.append(n)
        if n:
            count.send(n - 1)

    with app.app_context():
        count.send(3)
    assert len(drain(app)) == 4
    assert ran == [3, 2, 1, 0]


def test_a_delayed_job_stays_until_its_time_has_come(app, clock, note, ran):
    """The test moves the clock."""
    job = note("later", delay=60_000)
    assert drain(app) == []
    assert job.refresh().status is Status.SCHEDULED
    clock.advance(60_000)
    assert [done.id for done in drain(app)] == [job.id]
    assert ran == ["later"]


@pytest.mark.needs("Retries")
def test_a_job_that_waits_for_its_retry_stays(app, clock, taskq):
    """Its handle tells that it failed once."""
    fail = taskq.actor(lambda: 1 / 0, actor_name="fail", max_retries=1)
    with app.app_context():
        fail.send()
    [job] = drain(app)
    assert (job.status, job.record.attempt) == (Status.SCHEDULED, 1)
    assert drain(app) == []
    clock.advance(60_000)
    assert drain(app, raise_failures=False)[0].status is Status.FAILED


@pytest.mark.needs("Retries")
def test_a_job_without_backoff_runs_until_it_is_done(app, taskq):
    """Each run is in the list."""
    fail = taskq.actor(lambda: 1 / 0, actor_name="fail", max_retries=2, min_backoff=0)
    with app.app_context():
        fail.send()
    jobs = drain(app, raise_failures=False)
    assert [job.record.attempt for job in jobs] == [1, 2, 3]
    assert [job.status for job in jobs] == [Status.SCHEDULED, Status.SCHEDULED, Status.FAILED]


@pytest.mark.needs("Retries")
def test_a_failure_can_be_left_to_the_test(app, taskq):
    """It is in the record, as in a worker; the jobs behind it run."""
    fail = taskq.actor(lambda: 1 / 0, actor_name="fail", max_retries=0)
    good = taskq.actor(lambda: 1, actor_name="good")
    with app.app_context():
        fail.send()
        good.send()
    failed, succeeded = drain(app, raise_failures=False)
    assert failed.record.error.type == "ZeroDivisionError"
    assert succeeded.get_result() == 1


def test_arguments_and_results_go_through_json(app, taskq):
    """What would not survive a real queue does not survive here."""
    kinds = []

    @taskq.actor
    def look(value):
        kinds.append(type(value))
        return (1, 2)

    with app.app_context():
        job = look.send((1, 2))
    drain(app)
    assert kinds == [list]
    assert job.get_result() == [1, 2]


def test_jobs_run_in_the_calling_thread(app, taskq):
    """So that a test's patches and breakpoints hold."""
    idents = []
    work = taskq.actor(lambda: idents.append(threading.get_ident()), actor_name="work")
    with app.app_context():
        work.send()
    drain(app)
    assert idents == [threading.get_ident()]


def test_jobs_go_through_the_hooks(app, taskq, note):
    """Those around the actor, and those of the outcome."""
    watcher = Watcher()
    taskq.broker_for(app).add_middleware(watcher)
    note("a")
    watcher.seen.clear()
    drain(app)
    assert watcher.seen == [
        "enter",
        "before_process_message",
        "after_process_message",
        "leave",
        "before_ack",
        "after_ack",
    ]


def test_it_can_be_called_in_an_app_context(app, taskq):
    """Jobs have their own all the same."""

    @taskq.actor
    def look():
        return "mine" in g

    with app.app_context():
        g.mine = 1
        job = look.send()
        drain(app)
        assert g.mine == 1
    assert job.get_result() is False


def test_the_context_is_torn_down_after_each_job(app, note, ran):
    """And not at the end of all."""
    note("a")
    note("b")
    app.teardown_appcontext(lambda error: ran.append("torn down"))
    drain(app)
    assert ran == ["a", "torn down", "b", "torn down"]


def test_a_database_session_is_removed_after_each_job(taskq):
    """What one job left uncommitted or cached, the next does not see."""
    app = Flask("app")
    app.config.update(
        TASKQ_BROKER_URL="memory://", SQLALCHEMY_DATABASE_URI="sqlite+pysqlite://"
    )
    database = SQLAlchemy(app)
    taskq.init_app(app)

    class User(database.Model):
        id = database.Column(database.Integer, primary_key=True)

    removed = []
    remove = database.session.remove
    database.session.remove = lambda: (removed.append(1), remove())

    @taskq.actor
    def work():
        before = len(list(database.session.identity_map)) + len(database.session.new)
        database.session.add(User())
        return [before, database.session.query(User).count()]

    with app.app_context():
        database.create_all()
        for _ in range(2):
            work.send()
    results = [job.get_result() for job in drain(app)]
    assert results == [[0, 1], [0, 1]]
    with app.app_context():
        database.engine.dispose()


def test_a_job_that_sends_many_is_drained_with_them(app, taskq, note, ran):
    """In one step, in order."""

    @taskq.actor
    def fan_out():
        actor = taskq.broker.get_actor("note")
        taskq.send_many([actor.message(n) for n in range(3)])

    with app.app_context():
        fan_out.send()
    assert len(drain(app)) == 4
    assert ran == [0, 1, 2]


def test_a_job_may_move_the_clock_beyond_the_lease(app, clock, taskq):
    """Its outcome counts."""

    @taskq.actor
    def sleep():
        clock.advance(3_600_000)

    with app.app_context():
        sleep.send()
        sleep.send()
    assert [job.status for job in drain(app)] == [Status.SUCCEEDED] * 2


def test_a_cancelled_job_does_not_run(app, note, ran):
    """Nor is it in the list."""
    note("a").cancel()
    assert drain(app) == []
    assert ran == []


def test_another_engine_is_refused(tmp_path, taskq):
    """Its jobs may be real ones."""
    app = Flask("app", instance_path=str(tmp_path / "instance"))
    taskq.init_app(app)
    with pytest.raises(ConfigurationError, match="set TASKQ_BROKER_URL to"):
        drain(app)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_behind(app, taskq, note, monkeypatch):
    """No worker is registered afterwards, also when the draining itself fails."""
    engine = taskq.broker_for(app).engine
    note("a")
    drain(app)
    assert engine.store.leases == {}
    note("a")
    monkeypatch.setattr("flask_taskq.worker.runner.Runner.run", None)
    with pytest.raises(TypeError):
        drain(app)
    assert engine.store.leases == {}


def test_ctrl_c_in_a_job_ends_the_test_and_not_the_job(app, taskq):
    """It is for the thread that drains; the job is queued as before."""

    @taskq.actor
    def interrupted():
        raise KeyboardInterrupt

    with app.app_context():
        job = interrupted.send()
        with pytest.raises(KeyboardInterrupt):
            drain(app)
        assert job.refresh().status is Status.QUEUED
        assert job.record.attempt == 0


@pytest.mark.needs("Callbacks")
def test_callbacks_run_too(taskq, app):
    """Like anything that a job sends; hooks hear that they were stored."""
    stored = []

    class Listening(Middleware):
        def after_enqueue(self, broker, message, delay):
            stored.append(message.actor_name)

    taskq.broker_for(app).add_middleware(Listening())
    told = []
    taskq.actor(lambda message, result: told.append(result), actor_name="tell")
    taskq.actor(lambda: 5, actor_name="five", on_success="tell")
    with app.app_context():
        taskq.broker.get_actor("five").send()
    assert [job.record.actor for job in drain(app)] == ["five", "tell"]
    assert told == [5]
    assert stored == ["five", "tell"]


@pytest.mark.needs("CurrentJob")
def test_async_jobs_can_be_drained_by_a_coroutine(app, taskq):
    """An async test has an event loop in its thread already; the job's contexts hold."""

    @taskq.actor
    async def look(n):
        await asyncio.sleep(0)
        return [n, current_app.name, current_job.attempt]

    async def main():
        with app.app_context():
            job = look.send(1)
        drain(app)
        return job.get_result()

    assert asyncio.run(main()) == [1, "app", 1]


@pytest.mark.needs("Retries")
def test_an_async_job_that_fails_fails_the_same_for_a_coroutine(app, taskq):
    """Its error is in the record."""

    @taskq.actor(max_retries=0)
    async def fail():
        raise ValueError("no such month")

    async def main():
        with app.app_context():
            fail.send()
        return drain(app, raise_failures=False)

    [job] = asyncio.run(main())
    assert job.record.error.message == "no such month"

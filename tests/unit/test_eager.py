"""Jobs that run where they are sent."""

import asyncio
import datetime
import threading

import pytest
from flask import current_app
from flask import g

from flask_taskq import current_job
from flask_taskq import Status
from flask_taskq import TaskQ
from flask_taskq.eager import MAX_DEPTH
from flask_taskq.eager import MAX_RUNS
from flask_taskq.errors import BadArguments
from flask_taskq.errors import ResultFailure
from flask_taskq.errors import Shutdown
from flask_taskq.testing import drain
from tests.support.apps import make_app
from tests.support.apps import messages
from tests.support.apps import Watcher


@pytest.fixture
def taskq(clock):
    return TaskQ(clock=clock)


@pytest.fixture
def app(taskq, tmp_path):
    """With an engine that must not be touched."""
    url = f"sqlite:///{tmp_path}/nothing/taskq.sqlite3"
    app = make_app(taskq, eager=True, broker_url=url)
    with app.app_context():
        yield app
    assert list(tmp_path.iterdir()) == []


def test_a_job_has_run_when_send_returns(app, taskq):
    """The handle knows the outcome, without looking again."""

    @taskq.actor
    def add(a, b):
        return a + b

    job = add.send(1, 2)
    assert job.status is Status.SUCCEEDED
    assert job.get_result() == 3
    assert taskq.job(job.id).get_result() == 3


@pytest.mark.parametrize("url", ["memory://", "sqlite:///x.sqlite3", "redis://nowhere"])
def test_it_needs_no_engine(url, clock):
    """Whatever the URL is of."""
    taskq = TaskQ(clock=clock)
    add = taskq.actor(actor_name="add")(lambda: 1)
    with make_app(taskq, eager="true", broker_url=url).app_context():
        assert add.send().get_result() == 1


@pytest.mark.needs("CurrentJob")
def test_it_goes_the_way_of_every_job(app, taskq):
    """Through encoder, middleware, hooks, and a context of its own."""
    watcher = Watcher()
    taskq.broker.add_middleware(watcher)
    g.mine = 1

    @taskq.actor
    def look(day: datetime.date, pair):
        assert isinstance(day, datetime.date)
        return pair, current_app.name, current_job.attempt, "mine" in g

    job = look.send(datetime.date(2026, 1, 1), (1, 2))
    assert job.get_result() == [[1, 2], "app", 1, False]
    hooks = [hook for hook in watcher.seen if "declare" not in hook]
    assert hooks == [
        "before_enqueue",
        "after_enqueue",
        "enter",
        "before_process_message",
        "after_process_message",
        "leave",
        "before_ack",
        "after_ack",
    ]


def test_arguments_that_cannot_be_sent_are_the_senders_error(app, taskq):
    """As without it."""
    add = taskq.actor(actor_name="add")(lambda a: 1)
    with pytest.raises(BadArguments):
        add.send(object())
    with pytest.raises(BadArguments):
        add.send()


@pytest.mark.needs("CurrentJob", "Retries")
def test_an_error_is_in_the_record_and_is_not_raised(app, taskq, clock):
    """After all retries, for which nobody waits."""
    attempts = []

    @taskq.actor(max_retries=2, min_backoff=600_000)
    def fail():
        attempts.append(current_job.attempt)
        raise ValueError("no such month")

    began = clock.now()
    job = fail.send()
    assert attempts == [1, 2, 3]
    assert (job.status, job.record.attempt) == (Status.FAILED, 3)
    assert job.record.error.message == "no such month"
    assert clock.now() == began
    with pytest.raises(ResultFailure, match="no such month"):
        job.get_result()


@pytest.mark.needs("CurrentJob", "Retries")
def test_a_job_can_succeed_at_a_later_attempt(app, taskq):
    """As in a worker."""

    @taskq.actor
    def second():
        assert current_job.attempt == 2
        return "done"

    assert second.send().get_result() == "done"


def test_a_delay_is_left_out(app, taskq, clock):
    """And an eta, and the order of priorities."""
    ran = []
    note = taskq.actor(actor_name="note")(ran.append)
    note.send_with_options(args=("a",), delay=10**9, priority=9)
    note.send_with_options(args=("b",), eta=clock.now() + 10**9, queue_name="other")
    jobs = taskq.send_many([note.message("c"), note.message_with_options(args=["d"], delay=1)])
    assert ran == ["a", "b", "c", "d"]
    assert [job.status for job in jobs] == ["succeeded", "succeeded"]


@pytest.mark.needs("CurrentJob")
def test_jobs_that_a_job_sends_run_inside_of_it(app, taskq):
    """It can use their results, and stays the current one."""

    @taskq.actor
    def inner(n):
        return [n, current_job.id]

    @taskq.actor
    def outer():
        jobs = [inner.send(n) for n in (1, 2)]
        results = [job.get_result() for job in jobs]
        return results == [[1, jobs[0].id], [2, jobs[1].id]], current_job.id

    job = outer.send()
    assert job.get_result() == [True, job.id]


def test_a_job_can_wait_for_a_thread_that_sends(app, taskq):
    """Nothing is locked while jobs run."""
    inner = taskq.actor(actor_name="inner")(lambda: 1)

    @taskq.actor
    def outer():
        results = []

        def send():
            with app.app_context():
                results.append(inner.send().get_result())

        thread = threading.Thread(target=send)
        thread.start()
        thread.join(10)
        return results

    assert outer.send().get_result() == [1]


def test_a_sender_runs_its_own_job_and_no_other(app, taskq):
    """Though there is another one, which may run."""
    ran = []
    note = taskq.actor(actor_name="note")(ran.append)
    run_at_once, taskq.broker.run_at_once = taskq.broker.run_at_once, None
    waiting = note.send_with_options(args=("first",), priority=-9)
    taskq.broker.run_at_once = run_at_once
    note.send("second")
    assert ran == ["second"]
    assert waiting.refresh().status is Status.QUEUED


def test_an_actor_that_sends_itself_again_ends(app, taskq, caplog):
    """The innermost job stays queued, and the log says so."""
    ran = []

    @taskq.actor
    def poll():
        ran.append(1)
        return poll.send_with_options(delay=60_000).id

    job = poll.send()
    assert len(ran) == MAX_DEPTH
    while job.status is Status.SUCCEEDED:
        last, job = job, taskq.job(job.get_result())
    assert job.status is Status.QUEUED
    assert [job.id in line for line in messages(caplog) if "inside of each other" in line] == [
        True
    ]
    assert last.status is Status.SUCCEEDED


@pytest.mark.needs("Retries")
def test_a_job_that_is_retried_for_ever_is_let_go(app, taskq):
    """It waits for another run that nobody makes."""

    @taskq.actor(max_retries=None)
    def fail():
        raise ValueError

    job = fail.send()
    assert (job.status, job.record.attempt) == (Status.SCHEDULED, MAX_RUNS)


def test_a_job_that_gives_itself_back_is_left(app, taskq):
    """It would do so again; drain() runs it."""
    raised = []

    @taskq.actor
    def stop():
        if not raised:
            raised.append(1)
            raise Shutdown

    job = stop.send()
    assert (job.status, job.record.attempt) == (Status.QUEUED, 0)
    assert [again.id for again in drain(app)] == [job.id]


def test_ctrl_c_is_raised(app, taskq):
    """It is for the program. The job is as if it had not begun."""

    @taskq.actor
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted.send()
    assert taskq.broker.engine.queues.depths() == {"default": 1}


def test_records_are_kept_for_their_time(app, taskq, clock):
    """A process that goes on for weeks must not fill up."""
    add = taskq.actor(actor_name="add")(lambda: 1)
    add.send()
    clock.advance(taskq.broker.settings.result_ttl)
    last = add.send()
    assert set(taskq.broker.engine.store.table) == {last.id}


def test_a_record_that_is_not_kept_at_all_is_no_error(clock):
    """The handle is there, as it was when the job was stored."""
    taskq = TaskQ(clock=clock)
    add = taskq.actor(actor_name="add")(lambda: 1)
    with make_app(taskq, eager=True, result_ttl=0).app_context():
        assert add.send().status is Status.QUEUED


def test_the_resource_of_the_job_shows_the_outcome(app, taskq):
    """Views need not be written in another way."""
    add = taskq.actor(actor_name="add")(lambda: 1)
    with app.test_request_context():
        response = taskq.accepted(add.send())
    assert response.status_code == 202
    assert response.json["status"] == "succeeded"
    assert app.test_client().get(response.location).json["result"] == 1


def test_a_coroutine_can_send_async_jobs(app, taskq):
    """As an async view does."""

    @taskq.actor
    async def double(n):
        return 2 * n

    async def view():
        return double.send(4).get_result()

    assert asyncio.run(view()) == 8

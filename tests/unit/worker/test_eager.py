"""Jobs that run where they are sent."""

import asyncio
import datetime
import logging
import os
import signal
import subprocess
import sys
import threading

import pytest
from flask import current_app
from flask import g

from flask_taskq import current_job
from flask_taskq import Message
from flask_taskq import Status
from flask_taskq import TaskQ
from flask_taskq.errors import BadArguments
from flask_taskq.errors import ResultFailure
from flask_taskq.errors import Snooze
from flask_taskq.testing import drain
from flask_taskq.worker.eager import MAX_DEPTH
from flask_taskq.worker.eager import MAX_RUNS
from tests.support.apps import make_app
from tests.support.apps import messages
from tests.support.apps import once
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
    """The innermost job fails, and says why; it was a job's own stack that would overflow."""
    ran = []

    @taskq.actor
    def poll():
        ran.append(1)
        return poll.send_with_options(delay=60_000).id

    job = poll.send()
    assert len(ran) == MAX_DEPTH
    while job.status is Status.SUCCEEDED:
        last, job = job, taskq.job(job.get_result())
    assert (job.status, job.record.error.type) == (Status.FAILED, "RecursionError")
    assert "does actor 'poll' send itself again and again?" in job.record.error.message
    assert [job.id in line for line in messages(caplog, logging.ERROR)] == [True]
    assert last.status is Status.SUCCEEDED


@pytest.mark.needs("Callbacks")
def test_callbacks_run_when_their_job_has_ended(app, taskq):
    """At once, as what a job sends does; those of a failure, too."""
    ran = []
    tell = taskq.actor(lambda message, what: ran.append(what), actor_name="tell")
    work = taskq.actor(lambda: ran.append("work"), actor_name="work", on_success=tell)
    fail = taskq.actor(lambda: 1 / 0, actor_name="fail", on_failure=tell, **once())
    work.send()
    fail.send()
    assert ran == ["work", None, {"type": "ZeroDivisionError", "message": "division by zero"}]
    assert taskq.broker.engine.queues.depths() == {}


@pytest.mark.needs("Retries")
def test_the_callback_of_the_last_retry_runs(app, taskq):
    """After all the runs of its job."""
    ran = []
    tell = taskq.actor(lambda message, what: ran.append(what), actor_name="tell")

    @taskq.actor(max_retries=1, on_retry_exhausted=tell)
    def fail():
        ran.append("run")
        raise ValueError

    fail.send()
    assert ran == ["run", "run", {"retries": 1, "max_retries": 1}]


@pytest.mark.needs("Callbacks")
def test_a_callback_sees_its_job_as_it_has_ended(app, taskq):
    """Its outcome was stored before."""
    seen = []

    @taskq.actor
    def look(message, result):
        seen.append(taskq.job(message["message_id"]).get_result())

    taskq.actor(lambda: 5, actor_name="five", on_success=look).send()
    assert seen == [5]


@pytest.mark.needs("Callbacks")
def test_callbacks_that_call_each_other_end(app, taskq):
    """Like an actor that sends itself."""
    ran = []
    taskq.actor(lambda *_: ran.append(1), actor_name="ping", on_success="pong")
    taskq.actor(lambda *_: ran.append(1), actor_name="pong", on_success="ping")
    assert taskq.broker.get_actor("ping").send().status is Status.SUCCEEDED
    assert len(ran) == MAX_DEPTH


def test_a_job_of_an_unknown_actor_fails_at_once(app, taskq):
    """No worker that knows it will come."""
    job = taskq.broker.enqueue(Message("default", "nobody", (), {}, {}))
    assert (job.status, job.record.error.code) == (Status.FAILED, "unknown_actor")


def test_async_jobs_share_what_belongs_to_a_loop(app, taskq):
    """As they do in a worker: a limit, or a client with connections."""
    limit = asyncio.Semaphore(1)

    @taskq.actor
    async def fetch():
        async def one():
            async with limit:
                await asyncio.sleep(0)
                return 1

        return sum(await asyncio.gather(one(), one()))

    assert [fetch.send().get_result() for _ in range(3)] == [2, 2, 2]


def test_an_async_job_can_wait_for_an_async_job_that_it_sends(app, taskq):
    """Both are in one loop, so the second one runs while the first one waits."""
    limit = asyncio.Semaphore(1)

    @taskq.actor
    async def inner(n):
        async with limit:
            await asyncio.sleep(0)
        return n

    @taskq.actor
    async def outer():
        async with limit:
            jobs = [inner.send(n) for n in range(3)]
            await asyncio.sleep(0)
        return [await job.result() for job in jobs]

    assert outer.send().get_result() == [0, 1, 2]


def test_an_async_job_need_not_wait_for_an_async_job_that_it_sends(app, taskq):
    """It has run when the first send returns."""
    ran = []

    @taskq.actor
    async def inner():
        await asyncio.sleep(0)
        ran.append("inner")

    @taskq.actor
    async def outer():
        inner.send()
        ran.append("outer")

    outer.send()
    assert ran == ["outer", "inner"]


def test_a_job_that_holds_up_the_loop_of_the_job_it_waits_for_is_told(app, taskq):
    """In a worker it would wait until its time is over."""

    @taskq.actor
    async def inner():
        pass

    @taskq.actor(**once())
    async def outer():
        inner.send().get_result(block=True, timeout=None)

    error = outer.send().record.error
    assert error.type == "ResultTimeout"
    assert "await job.result() in place of get_result(block=True)" in error.message


@pytest.mark.needs("CurrentJob")
def test_a_job_that_waits_for_its_sender_is_told(app, taskq):
    """Neither would ever end."""

    @taskq.actor(**once())
    def inner(job_id):
        taskq.job(job_id).get_result(block=True, timeout=None)

    @taskq.actor
    def outer():
        return inner.send(current_job.id).record.error.message

    assert "waits for the job that waits for it here" in outer.send().get_result()


def test_threads_can_send_async_jobs_at_the_same_time(app, taskq):
    """Whichever has the loop runs the jobs of all."""
    count = 8
    together = asyncio.Barrier(count)

    @taskq.actor
    async def meet():
        # Each waits for all others, so none could run after another.
        await together.wait()
        return 1

    results = []

    def send():
        with app.app_context():
            results.append(meet.send().get_result())

    threads = [threading.Thread(target=send) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert results == [1] * count


def test_an_async_job_can_wait_for_a_thread_that_sends_one(app, taskq):
    """The loop goes on meanwhile."""

    @taskq.actor
    async def inner():
        await asyncio.sleep(0)
        return 1

    @taskq.actor
    async def outer():
        return await asyncio.to_thread(lambda: inner.send().get_result())

    assert outer.send().get_result() == 1


def test_the_traceback_of_an_async_job_is_the_actors_own(app, taskq):
    """Nothing of the loop is in it."""

    @taskq.actor(**once())
    async def fail():
        raise ValueError("no such month")

    traceback = fail.send().record.error.traceback
    assert traceback.count("File ") == 1
    assert "no running event loop" not in traceback


def test_ctrl_c_in_an_async_job_is_raised(app, taskq):
    """And the loop serves the next one."""

    @taskq.actor
    async def interrupted():
        await asyncio.sleep(0)
        raise KeyboardInterrupt

    @taskq.actor
    async def one():
        return 1

    with pytest.raises(KeyboardInterrupt):
        interrupted.send()
    assert one.send().get_result() == 1


def test_ctrl_c_while_an_async_job_waits_is_raised(app, taskq):
    """It cancels the job, which is as if it had not begun."""
    cleaned_up = []

    @taskq.actor
    async def wait():
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
        try:
            await asyncio.sleep(60)
        finally:
            cleaned_up.append(1)

    with pytest.raises(KeyboardInterrupt):
        wait.send()
    assert cleaned_up == [1]
    assert taskq.broker.engine.queues.depths() == {"default": 1}


def test_an_async_job_that_cancels_itself_fails(app, taskq):
    """As in a worker; the sender is not cancelled."""

    @taskq.actor(**once())
    async def cancel():
        raise asyncio.CancelledError

    assert cancel.send().record.error.type == "CancelledError"


def test_the_loop_is_closed_when_the_process_ends(tmp_path):
    """Nothing is said about it, though warnings are on, and a job has left something there."""
    code = """
import asyncio
from flask import Flask
from flask_taskq import TaskQ

app = Flask("app")
app.config["TASKQ_EAGER"] = True
taskq = TaskQ(app)

async def numbers():
    yield 1
    yield 2

@taskq.actor
async def leave():
    leave.kept = [asyncio.create_task(asyncio.sleep(60)), numbers()]
    await anext(leave.kept[1])
    return await asyncio.to_thread(int, "5")

with app.app_context():
    print(leave.send().get_result())
"""
    command = [sys.executable, "-W", "always", "-X", "dev", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "5\n", "")


def test_a_forked_process_has_a_loop_of_its_own(app, taskq):
    """It runs its jobs, and the parent's loop goes on as before."""

    @taskq.actor
    async def add(a, b):
        return await asyncio.to_thread(int, a + b)

    assert add.send(1, 2).get_result() == 3
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if add.send(2, 2).get_result() == 4 else 2
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert add.send(3, 2).get_result() == 5


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
            raise Snooze(0)

    job = stop.send()
    assert (job.status, job.record.attempt) == (Status.SCHEDULED, 0)
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

"""Jobs in the hands of a test: what runs when, what goes wrong, and what is left of it."""

from __future__ import annotations

import gc
import threading
import unittest
import weakref
from datetime import date
from datetime import timedelta
from itertools import pairwise

import pytest
from flask import current_app
from flask import Flask
from flask import g

from flask_taskq import current_job
from flask_taskq import Middleware
from flask_taskq import signals
from flask_taskq import Status
from flask_taskq import TaskQ
from flask_taskq.clock import Clock
from flask_taskq.errors import ActorNotFound
from flask_taskq.errors import BadArguments
from flask_taskq.errors import BadResult
from flask_taskq.errors import Cancel
from flask_taskq.errors import ConfigurationError
from flask_taskq.errors import JobNotFound
from flask_taskq.errors import ResultFailure
from flask_taskq.errors import SkipMessage
from flask_taskq.errors import Snooze
from flask_taskq.testing import drain
from flask_taskq.testing import JobTester
from flask_taskq.testing import ManualClock
from flask_taskq.testing import MovableClock
from tests.support.apps import make_app
from tests.support.apps import Watcher

HOUR = 3_600_000


# Draining


def test_all_jobs_are_drained_in_the_order_of_their_times(jobs, note, ran):
    """The clock is moved from one to the next."""
    sent = [note("b", delay=HOUR), note("c", delay=2 * HOUR), note("a")]
    began = jobs.clock.now()
    drained = jobs.drain()
    assert ran == ["a", "b", "c"]
    assert [job.id for job in drained] == [sent[2].id, sent[0].id, sent[1].id]
    assert jobs.clock.now() - began == 2 * HOUR
    assert jobs.enqueued() == []


@pytest.mark.needs("Retries")
def test_jobs_that_failed_are_drained_until_they_are_done(jobs, taskq, app):
    """With the backoff between their runs, of which nobody waits for a second."""
    times = []

    @taskq.actor(max_retries=2, min_backoff=HOUR, max_backoff=HOUR)
    def fail():
        times.append(jobs.clock.now())
        raise ValueError("no")

    with app.app_context():
        fail.send()
    drained = jobs.drain(raise_failures=False)
    assert [job.record.attempt for job in drained] == [1, 2, 3]
    assert [job.status.is_final for job in drained] == [False, False, True]
    assert all(later - earlier >= HOUR / 2 for earlier, later in pairwise(times))


def test_jobs_that_jobs_send_for_later_are_drained(jobs, taskq, app, ran):
    """All that follows from one message."""

    @taskq.actor
    def count(n):
        ran.append(n)
        if n:
            count.send_with_options(args=(n - 1,), delay=HOUR)

    with app.app_context():
        count.send(3)
    jobs.drain()
    assert ran == [3, 2, 1, 0]


def test_a_drain_can_leave_what_is_not_due_in_time(jobs, note, ran):
    """And does not move the clock beyond what it runs."""
    note("now")
    note("soon", delay=timedelta(minutes=10))
    note("later", delay=HOUR)
    jobs.drain(within=0)
    assert ran == ["now"]
    jobs.drain(within=timedelta(minutes=30))
    assert ran == ["now", "soon"]
    jobs.assert_enqueued("note", args=("later",))
    began = jobs.clock.now()
    assert jobs.drain(within=1_000) == []
    assert jobs.clock.now() == began


def test_a_drain_ends_though_jobs_send_each_other_without_an_end(jobs, taskq, app):
    """And says which ones."""

    @taskq.actor
    def again():
        again.send_with_options(delay=HOUR)

    with app.app_context():
        again.send()
    with pytest.raises(AssertionError, match=r"^50 jobs ran, the last one of actor 'again'"):
        jobs.drain(max_runs=50)
    assert len(jobs.drain(within=24 * HOUR)) == 24


def test_a_drain_of_exactly_as_many_jobs_as_it_may_run_succeeds(jobs, note):
    """The limit is for those without an end."""
    for n in range(5):
        note(n)
    note("later", delay=HOUR)
    assert len(jobs.drain(within=0, max_runs=5)) == 5
    assert len(jobs.drain(max_runs=1)) == 1


class CountedTable(dict):
    """The jobs of an engine, which counts how often one is looked at."""

    looks = 0

    def __getitem__(self, job_id):
        self.looks += 1
        return super().__getitem__(job_id)

    def get(self, job_id, default=None):
        self.looks += 1
        return super().get(job_id, default)


def test_a_drain_of_many_jobs_looks_at_each_a_few_times(jobs, taskq, app):
    """And not with each run at all that wait or have ended."""
    count = taskq.actor(lambda n: n, actor_name="count")
    with app.app_context():
        store = taskq.broker.engine.store
        store.table = table = CountedTable(store.table)
        taskq.send_many([count.message(n) for n in range(2_000)])
    assert len(jobs.drain()) == 2_000
    assert 2_000 <= table.looks <= 40_000


# One job


def test_run_next_runs_one_job_and_returns_it(jobs, note, ran):
    """The one whose turn it is."""
    note("a")
    urgent = note("b", priority=-1)
    assert jobs.run_next().id == urgent.id
    assert ran == ["b"]
    assert jobs.run_next().get_result() == "a"


def test_run_next_fails_when_no_job_may_run(jobs, note):
    """It says what waits, and how to come to it."""
    with pytest.raises(AssertionError, match="no job may run now: none is scheduled"):
        jobs.run_next()
    note("later", delay=HOUR)
    with pytest.raises(
        AssertionError, match=r"the next one is note\('later'\) in 3,600,000 ms"
    ):
        jobs.run_next()


@pytest.mark.needs("CurrentJob")
def test_perform_runs_an_actor_and_returns_its_result(jobs, app, taskq):
    """In a job, in the app's context, with everything written as JSON and read back."""
    seen = []

    @taskq.actor
    def add(day: date, numbers, *, more=0) -> tuple[date, int]:
        seen.extend([day, numbers, current_app.name, current_job.attempt])
        return day, sum(numbers) + more

    day = date(2026, 1, 2)
    assert jobs.perform(add, day, (1, 2), more=3) == (day, 6)
    assert seen == [day, [1, 2], "app", 1]


def test_perform_raises_what_the_actor_raises(jobs, taskq):
    """The exception itself; no retry is left to surprise the next drain."""
    error = ValueError("no such month")

    @taskq.actor
    def fail():
        raise error

    with pytest.raises(ValueError) as caught:
        jobs.perform(fail)
    assert caught.value is error
    assert jobs.drain() == []


@pytest.mark.parametrize("error", [Snooze(5), Cancel("no"), KeyError("x")])
def test_perform_raises_what_decides_over_the_job(jobs, taskq, error):
    """An actor's own words are its outcome."""

    @taskq.actor
    def decide():
        raise error

    with pytest.raises(type(error)):
        jobs.perform(decide)
    assert jobs.enqueued() == []


def test_perform_of_a_job_that_skips_returns_none(jobs, taskq):
    """As its result is."""

    @taskq.actor
    def skip():
        raise SkipMessage("done before")

    assert jobs.perform(skip) is None


def test_perform_runs_no_other_job(jobs, note, taskq, ran):
    """However urgent."""
    note("first", priority=-9)
    assert jobs.perform(taskq._actors["note"], "mine") == "mine"
    assert ran == ["mine"]
    jobs.assert_enqueued("note", args=("first",))


def test_perform_refuses_arguments_that_would_not_survive_a_queue(jobs, taskq):
    """Though the function could be called with them."""

    @taskq.actor
    def take(value: int | None):
        pass

    with pytest.raises(BadArguments, match="argument 'value' of actor 'take' is an object"):
        jobs.perform(take, object())
    with pytest.raises(BadArguments, match="takes"):
        jobs.perform(take, 1, 2)


def test_perform_refuses_arguments_that_the_annotation_does_not_allow(jobs, taskq):
    """They are converted as in a worker."""

    @taskq.actor
    def take(day: date):
        pass

    with pytest.raises(BadArguments):
        jobs.perform(take, "tomorrow")


def test_perform_refuses_a_result_that_could_not_be_stored(jobs, taskq):
    """A test of the plain function would not see it."""
    give = taskq.actor(lambda: object(), actor_name="give")
    with pytest.raises(BadResult, match="the result of actor 'give' is an object"):
        jobs.perform(give)


def test_perform_refuses_an_actor_of_another_app(jobs):
    """Its job would find nobody to run it."""
    stranger = TaskQ().actor(lambda: 1, actor_name="stranger")
    with pytest.raises(ActorNotFound, match="stranger"):
        jobs.perform(stranger)


# Time


def test_a_delayed_job_runs_when_the_time_was_moved_on(jobs, note, ran):
    """And not before."""
    note("later", delay=HOUR)
    jobs.advance(HOUR - 60_000)
    assert jobs.drain(within=0) == []
    jobs.advance(timedelta(minutes=1))
    jobs.run_next()
    assert ran == ["later"]


@pytest.mark.needs("AgeLimit")
def test_a_job_can_expire(jobs, note, ran):
    """Its age is in the moved time, too."""
    job = note("old", max_age=HOUR)
    jobs.advance(HOUR + 1)
    jobs.drain()
    assert job.refresh().status is Status.EXPIRED
    assert ran == []


def test_a_result_is_gone_when_its_retention_is_over(jobs, note):
    """A day, unless the app says something else."""
    job = note("a")
    jobs.drain()
    jobs.advance(timedelta(days=1, milliseconds=-1))
    assert job.refresh().get_result() == "a"
    jobs.advance(1)
    with pytest.raises(JobNotFound):
        job.refresh()


def test_no_time_passes_by_itself(jobs, note):
    """So that a test can tell the last millisecond before from the first one after."""
    job = note("later", delay=HOUR)
    assert job.record.scheduled_for == jobs.clock.now() + HOUR
    jobs.advance(HOUR - 1)
    assert jobs.drain(within=0) == []
    jobs.advance(1)
    assert jobs.run_next().record.finished_at == job.record.scheduled_for


def test_a_clock_of_the_app_that_can_be_moved_is_taken(clock):
    """A test may have given it one."""
    taskq = TaskQ(clock=clock)
    with JobTester(make_app(taskq)) as jobs:
        assert jobs.clock is clock
        jobs.advance(1_000)
    assert clock.monotonic() == 2_000


def test_a_clock_can_be_given_for_the_length_of_a_test(app, taskq):
    """For a test of a date."""
    clock = ManualClock(now=0)
    with JobTester(app, clock=clock), app.app_context():
        job = taskq.actor(lambda: 1, actor_name="one").send()
        assert job.record.created_at == 0


def test_the_apps_own_clock_is_put_back(app, taskq):
    """Where broker and engine had it."""
    broker = taskq.broker_for(app)
    own = broker.clock
    with JobTester(app) as jobs:
        assert broker.clock is broker.engine.clock is jobs.clock
        assert isinstance(jobs.clock, MovableClock)
    assert broker.clock is broker.engine.clock is own
    assert type(own) is Clock


# What goes wrong


@pytest.mark.needs("Retries")
def test_the_next_job_can_be_made_to_fail(jobs, note, ran):
    """Once; what follows is what the actor's options say."""
    job = note("a")
    jobs.fail_next(ConnectionError("no route"))
    failed = jobs.run_next()
    assert (failed.status, failed.record.attempt) == (Status.SCHEDULED, 1)
    assert failed.record.error.type == "ConnectionError"
    assert ran == []
    assert [one.id for one in jobs.drain()] == [job.id]
    assert ran == ["a"]


@pytest.mark.needs("Retries")
def test_failures_can_be_lined_up(jobs, note, ran):
    """Until no retry is left; a class will do."""
    job = note("a", max_retries=2)
    for _ in range(3):
        jobs.fail_next(TimeoutError)
    assert len(jobs.drain(raise_failures=False)) == 3
    assert job.refresh().status is Status.FAILED
    assert ran == []


@pytest.mark.needs("Retries")
def test_a_failure_can_wait_for_its_actor(jobs, note, taskq, app, ran):
    """Jobs of others run as ever."""
    other = taskq.actor(lambda: ran.append("other"), actor_name="other", max_retries=0)
    note("a")
    with app.app_context():
        other.send()
    jobs.fail_next(ValueError, other)
    assert [job.status for job in jobs.drain(raise_failures=False)] == [
        Status.SUCCEEDED,
        Status.FAILED,
    ]
    assert ran == ["a"]


@pytest.mark.needs("Retries")
def test_a_failed_run_goes_through_hooks_and_signals_as_any_other(jobs, note, taskq, app):
    """Only what the actor does is left out."""
    heard = []
    for name in ("started", "retried", "succeeded"):
        signal = getattr(signals, f"job_{name}")
        signal.connect(lambda app, name=name, **extra: heard.append(name), app, weak=False)
    watcher = Watcher()
    taskq.broker_for(app).add_middleware(watcher, before=Middleware)
    note("a")
    watcher.seen.clear()
    jobs.fail_next(ValueError)
    jobs.run_next()
    assert heard == ["started", "retried"]
    assert watcher.seen == [
        "enter",
        "before_process_message",
        "leave",
        "after_process_message",
        "before_ack",
        "after_ack",
    ]


def test_a_crashed_job_runs_again(jobs, note, ran):
    """It had done its work, and nobody was told: so it may be done twice."""
    job = note("a")
    jobs.crash_next()
    crashed = jobs.run_next()
    assert (crashed.status, crashed.record.crashes) == (Status.QUEUED, 1)
    jobs.drain()
    assert ran == ["a", "a"]
    job.refresh()
    assert (job.status, job.record.attempt, job.record.crashes) == (Status.SUCCEEDED, 1, 1)


def test_a_job_that_crashes_too_often_fails(jobs, note, ran):
    """As in a worker; the drain waits for the pause before the third run."""
    job = note("a")
    for _ in range(3):
        jobs.crash_next("note")
    assert len(jobs.drain(raise_failures=False)) == 3
    assert job.refresh().status is Status.FAILED
    assert job.record.error.code == "worker_lost"
    assert ran == ["a"] * 3


@pytest.mark.needs("Callbacks")
def test_the_outcome_of_a_crashed_run_is_not_stored(jobs, taskq, app, ran):
    """Nor what would have been sent with it."""
    tell = taskq.actor(lambda message, result: ran.append("told"), actor_name="tell")
    work = taskq.actor(lambda: ran.append("ran"), actor_name="work", on_success=tell)
    with app.app_context():
        work.send()
    jobs.crash_next(work)
    jobs.run_next()
    jobs.refute_enqueued(tell)
    jobs.drain()
    assert ran == ["ran", "ran", "told"]


def test_a_crash_calls_no_hook_of_an_outcome_that_was_stored(jobs, note, taskq, app):
    """A dead worker calls none."""
    watcher = Watcher()
    taskq.broker_for(app).add_middleware(watcher)
    note("a")
    jobs.crash_next()
    jobs.run_next()
    assert "after_ack" not in watcher.seen
    jobs.run_next()
    assert "after_ack" in watcher.seen


def test_perform_of_a_job_that_crashes_has_no_result(jobs, note, taskq):
    """Nor does the job stay."""
    jobs.crash_next()
    with pytest.raises(ResultFailure):
        jobs.perform(taskq._actors["note"], 1)
    assert jobs.enqueued() == []


@pytest.mark.parametrize("plan", ["fail", "crash"])
def test_a_mishap_that_did_not_happen_fails_the_test(app, note, plan):
    """It would pass whatever the app does about it."""
    expected = rf"no job ran for {plan}_next\(.*\) for actor 'note'"
    with pytest.raises(AssertionError, match=expected), JobTester(app) as jobs:
        if plan == "fail":
            jobs.fail_next(ValueError("x"), "note")
        else:
            jobs.crash_next("note")


def test_a_mishap_that_did_not_happen_hides_no_other_error(app, note):
    """The first one says what is wrong."""
    with pytest.raises(ZeroDivisionError), JobTester(app) as jobs:
        jobs.fail_next(ValueError)
        raise ZeroDivisionError


# From a 202 to the end


@pytest.fixture
def client(app, taskq, note):
    """A view that sends, and one that answers as it is told."""

    @app.post("/notes")
    def create_note():
        actor = taskq.broker.get_actor("note")
        return taskq.accepted(actor.send_with_options(args=("a",), delay=HOUR))

    @app.post("/elsewhere")
    def create_elsewhere():
        taskq.broker.get_actor("note").send("a")
        return {"id": 5}, 202, {"Location": "/done"}

    @app.get("/done")
    def done():
        return "Done."

    return app.test_client()


@pytest.mark.needs("Retries")
def test_a_202_is_followed_to_the_end_of_its_job(jobs, client):
    """Delay and retry included, as fast as the code is."""
    jobs.fail_next(ValueError)
    response = jobs.follow(client, client.post("/notes"))
    assert response.status_code == 200
    assert (response.json["status"], response.json["result"]) == ("succeeded", "a")
    assert response.json["attempt"] == 2


def test_following_a_202_leaves_jobs_that_come_later(jobs, client, note, ran):
    """Only what comes before its job is run."""
    note("before")
    note("after", delay=5 * HOUR)
    jobs.follow(client, client.post("/notes"))
    assert ran == ["before", "a"]
    jobs.assert_enqueued("note", args=("after",))


@pytest.mark.needs("Retries")
def test_a_failed_job_can_be_followed(jobs, client):
    """To the resource that says so."""
    for _ in range(4):
        jobs.fail_next(ValueError("no"))
    job = jobs.follow(client, client.post("/notes")).json
    assert (job["status"], job["error"]["code"]) == ("failed", "exception")


def test_an_answer_without_a_job_is_followed_when_all_jobs_have_run(jobs, client, ran):
    """An app may answer in its own words."""
    assert jobs.follow(client, client.post("/elsewhere")).text == "Done."
    assert ran == ["a"]


def test_what_is_no_202_cannot_be_followed(jobs, client):
    """The failure shows what the view has answered instead."""
    response = client.get("/done")
    with pytest.raises(AssertionError, match=r"this is 200 OK with Location None:\n\nDone\."):
        jobs.follow(client, response)


@pytest.mark.needs("Retries")
def test_a_job_that_does_not_end_cannot_be_followed(jobs, client, app, taskq, monkeypatch):
    """The failure says what is waiting."""
    monkeypatch.setattr("flask_taskq.testing.tester.MAX_RUNS", 5)

    @taskq.actor(max_retries=None, min_backoff=HOUR, max_backoff=HOUR)
    def fail():
        raise ValueError("no")

    @app.post("/failures")
    def create_failure():
        return taskq.accepted(fail.send())

    response = client.post("/failures")
    with pytest.raises(AssertionError, match=r"job \w{32} does not end: the next one is fail"):
        jobs.follow(client, response)


# The app, and what is left of a test


def test_no_job_outlives_its_test(app, taskq, note):
    """Also where one app serves many tests."""
    with JobTester(app) as jobs:
        job = note("a")
        note("b")
        jobs.run_next()
    with JobTester(app) as jobs:
        assert jobs.enqueued() == []
        assert jobs.drain() == []
        assert taskq.broker_for(app).engine.jobs.get(job.id) is None


def test_jobs_that_were_sent_before_are_there(app, note, ran):
    """A fixture may have set them up."""
    note("early")
    with JobTester(app) as jobs:
        jobs.assert_enqueued("note", args=("early",))


def test_the_apps_middleware_is_as_before(app, taskq, note):
    """What a test did to jobs does not go on."""
    broker = taskq.broker_for(app)
    before = list(broker.middleware)
    with JobTester(app) as jobs:
        assert broker.middleware != before
    assert broker.middleware == before
    jobs.fail_next(ValueError)
    note("a")
    assert [job.status for job in drain(app)] == [Status.SUCCEEDED]


def test_an_app_has_one_tester_at_a_time(jobs, app):
    """The end of the inner one would take the jobs of the outer one away."""
    with pytest.raises(RuntimeError, match="another JobTester has the jobs of this app"):
        with JobTester(app):
            pass
    assert jobs.drain() == []


def test_a_tester_keeps_no_app_alive():
    """Nor does anything that it has set up."""
    app = make_app(TaskQ())
    gone = weakref.ref(app)
    with JobTester(app) as jobs:
        jobs.drain()
    del app, jobs
    gc.collect()
    assert gone() is None


def test_jobs_leave_no_context_behind(jobs, app, taskq):
    """Each has its own, also when the test has one."""

    @taskq.actor
    def look():
        g.seen = "seen" in g
        return g.seen

    assert [jobs.perform(look) for _ in range(2)] == [False, False]
    with app.app_context():
        g.seen = True
        assert jobs.perform(look) is False


def test_jobs_of_two_apps_are_told_apart(taskq):
    """One TaskQ may serve several."""
    one, other = make_app(taskq, "one"), make_app(taskq, "other")
    work = taskq.actor(lambda: current_app.name, actor_name="work")
    with JobTester(one) as ones, JobTester(other) as others:
        with other.app_context():
            work.send()
        ones.refute_enqueued(work)
        others.assert_enqueued(work)
        assert [job.get_result() for job in others.drain()] == ["other"]


def test_an_app_with_real_jobs_is_refused(tmp_path, taskq):
    """Nothing of it is touched; a password in the URL is not shown."""
    app = Flask("app", instance_path=str(tmp_path / "instance"))
    taskq.init_app(app)
    expected = (
        r'TASKQ_BROKER_URL is sqlite:///.*: set TASKQ_BROKER_URL to "memory://" in the app'
    )
    with pytest.raises(ConfigurationError, match=expected):
        JobTester(app)
    assert list(tmp_path.iterdir()) == []


def test_an_app_without_a_taskq_is_refused():
    """It says what to do."""
    with pytest.raises(ConfigurationError, match="the app 'plain' has no TaskQ.*init_app"):
        JobTester(Flask("plain"))


def test_an_app_that_runs_jobs_where_they_are_sent_is_refused(taskq):
    """Nothing would ever be enqueued."""
    with pytest.raises(ConfigurationError, match="TASKQ_EAGER is on in the app 'app'"):
        JobTester(make_app(taskq, eager=True))


def test_ctrl_c_in_a_job_ends_the_test_and_not_the_job(jobs, taskq, app):
    """It is for the thread that runs it."""

    @taskq.actor
    def interrupted():
        raise KeyboardInterrupt

    with app.app_context():
        interrupted.send()
    with pytest.raises(KeyboardInterrupt):
        jobs.drain()
    jobs.assert_enqueued(interrupted)


def test_unittest_has_the_same_functions():
    """``enterContext()`` opens and closes it; a failure is one of unittest's."""
    taskq = TaskQ()
    app = make_app(taskq)
    add = taskq.actor(lambda a, b: a + b, actor_name="add")

    class AddTest(unittest.TestCase):
        def setUp(self):
            self.jobs = self.enterContext(JobTester(app))

        def test_good(self):
            self.assertEqual(self.jobs.perform(add, 1, 2), 3)

        def test_bad(self):
            self.jobs.assert_enqueued(add)

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(AddTest).run(result)
    assert (result.testsRun, len(result.failures), result.errors) == (2, 1, [])
    assert "not enqueued: add(...)" in result.failures[0][1]


def test_jobs_run_in_the_thread_of_the_test(jobs, taskq):
    """So that its patches and breakpoints hold."""
    work = taskq.actor(lambda: threading.get_ident(), actor_name="work")
    assert jobs.perform(work) == threading.get_ident()

"""What an app hears of its jobs and workers."""

import gc
import logging
import math
import weakref

import pytest
from blinker import NamedSignal
from flask import current_app

from flask_taskq import current_job
from flask_taskq import Middleware
from flask_taskq import signals
from flask_taskq import TaskQ
from flask_taskq.clock import Clock
from flask_taskq.errors import Cancel
from flask_taskq.errors import Shutdown
from flask_taskq.errors import SkipMessage
from flask_taskq.errors import Snooze
from flask_taskq.testing import drain
from flask_taskq.worker.threads.worker import Worker
from tests.support.apps import Line
from tests.support.apps import make_app
from tests.support.apps import messages
from tests.support.apps import once

SIGNALS = [one for one in vars(signals).values() if isinstance(one, NamedSignal)]


class Ear:
    """Hears every signal of one app."""

    def __init__(self, app):
        self.heard = []
        self._receivers = [self._receiver(signal.name) for signal in SIGNALS]
        for signal, receiver in zip(SIGNALS, self._receivers, strict=True):
            signal.connect(receiver, sender=app)

    def _receiver(self, name):
        def receive(app, **arguments):
            self.heard.append((name, arguments))

        return receive

    @property
    def names(self):
        return [name for name, _ in self.heard]

    def __getitem__(self, name):
        [arguments] = [given for heard, given in self.heard if heard == name]
        return arguments


@pytest.fixture
def taskq(clock):
    return TaskQ(clock=clock)


@pytest.fixture
def app(taskq):
    return make_app(taskq)


@pytest.fixture
def ear(app):
    return Ear(app)


@pytest.fixture
def run(app, taskq):
    """Runs a function as a job; what it sent."""

    def run(fn, **options):
        actor = taskq.actor(fn, actor_name="actor", **options)
        with app.app_context():
            job = actor.send()
        drain(app, raise_failures=False)
        return job

    return run


def test_the_names_have_dashes():
    """As Flask's own."""
    assert [signal.name for signal in SIGNALS] == [
        "job-enqueued",
        "job-started",
        "job-succeeded",
        "job-retried",
        "job-failed",
        "job-cancelled",
        "job-expired",
        "worker-started",
        "worker-stopping",
        "child-died",
    ]


def test_a_job_that_goes_well_is_heard_of_three_times(ear, run):
    """It was sent, it started, it succeeded."""
    job = run(lambda: "secret")
    assert ear.names == ["job-enqueued", "job-started", "job-succeeded"]
    assert ear["job-enqueued"]["message"].message_id == job.id
    assert ear["job-enqueued"]["delay"] is None
    assert ear["job-started"]["message"].id == job.id
    assert ear["job-started"]["message"].attempt == 1


def test_no_signal_has_the_result(ear, run):
    """A receiver that logs what it gets would log it."""
    run(lambda: "secret")
    assert "secret" not in str(ear.heard)
    assert set(ear["job-succeeded"]) == {"message"}


def test_a_delay_is_told(app, taskq, ear):
    """In milliseconds."""
    actor = taskq.actor(lambda: None, actor_name="actor")
    with app.app_context():
        actor.send_with_options(delay=5_000)
    assert ear["job-enqueued"]["delay"] == 5_000


def test_each_message_of_a_batch_is_told(app, taskq, ear):
    """And only after all of them were stored."""
    actor = taskq.actor(lambda: None, actor_name="actor")
    with app.app_context():
        taskq.send_many([actor.message(), actor.message()])
    assert ear.names == ["job-enqueued"] * 2


@pytest.mark.needs("Retries")
def test_a_job_that_runs_again_is_told_as_retried(ear, run):
    """With what was raised and when it runs again."""
    error = ValueError("no")

    def fail():
        raise error

    run(fail, min_backoff=1_000, max_backoff=1_000)
    assert ear.names == ["job-enqueued", "job-started", "job-retried"]
    assert ear["job-retried"]["exception"] is error
    assert 500 <= ear["job-retried"]["delay"] <= 1_000


def test_a_job_that_runs_no_more_is_told_as_failed(ear, run):
    """With what was raised."""
    run(lambda: 1 / 0, **once())
    assert ear.names == ["job-enqueued", "job-started", "job-failed"]
    assert isinstance(ear["job-failed"]["exception"], ZeroDivisionError)


def test_a_result_that_cannot_be_stored_is_a_failure(ear, run):
    """Though the actor returned."""
    run(object)
    assert ear.names[-1] == "job-failed"


def test_a_job_that_is_skipped_is_told_as_succeeded(ear, run):
    """That is what its record says."""

    def skip():
        raise SkipMessage

    run(skip)
    assert ear.names[-1] == "job-succeeded"


def test_a_job_that_is_failed_and_skipped_is_told_as_failed(app, taskq, ear, run):
    """That is what its record says."""

    class Failing(Middleware):
        def before_process_message(self, broker, message):
            message.fail()
            raise SkipMessage

    taskq.broker_for(app).add_middleware(Failing())
    run(lambda: None)
    assert ear.names[-1] == "job-failed"
    assert isinstance(ear["job-failed"]["exception"], SkipMessage)


def test_a_job_that_is_given_back_has_no_outcome(app, taskq, ear):
    """Its worker stops, and another one runs it."""

    line = Line(taskq.broker_for(app))

    def stop():
        line.runner.current.interrupt(Shutdown, math.inf)
        raise Shutdown

    actor = taskq.actor(stop, actor_name="actor")
    with app.app_context():
        actor.send()
    line.run_next()
    assert ear.names == ["job-enqueued", "job-started"]


@pytest.mark.parametrize(
    ("exception", "options"), [(Cancel("no"), {}), (KeyError("no"), {"discard_on": KeyError})]
)
@pytest.mark.needs("Retries")
def test_a_job_that_is_given_up_is_told_as_cancelled(app, taskq, ear, exception, options):
    """Nobody needs to be alarmed."""

    @taskq.actor(**options)
    def give_up():
        raise exception

    with app.app_context():
        job = give_up.send()
    drain(app)
    assert ear.names == ["job-enqueued", "job-started", "job-cancelled"]
    assert ear["job-cancelled"]["message"].id == job.id


def test_a_job_that_is_snoozed_has_no_outcome(app, taskq, ear):
    """It starts once more, later."""

    @taskq.actor(**once())
    def snooze():
        raise Snooze(1_000)

    with app.app_context():
        snooze.send()
    drain(app)
    assert ear.names == ["job-enqueued", "job-started"]


@pytest.mark.needs("AgeLimit")
def test_a_job_that_was_too_old_is_told_as_expired(app, taskq, ear, clock):
    """It is no success, though it was skipped."""
    actor = taskq.actor(lambda: None, actor_name="old", max_age=1_000)
    with app.app_context():
        job = actor.send()
    clock.advance(2_000)
    drain(app)
    assert "job-succeeded" not in ear.names
    assert ear["job-expired"]["message"].id == job.id


@pytest.mark.needs("CurrentJob")
def test_receivers_of_a_run_have_its_context(app, run):
    """The app's, and the job's."""
    seen = []

    def look(sender, **extra):
        seen.append((current_app._get_current_object() is sender, current_job.id))

    for signal in (signals.job_started, signals.job_succeeded):
        signal.connect(look, sender=app)
    job = run(lambda: None)
    assert seen == [(True, job.id)] * 2


def test_the_receivers_of_an_outcome_come_after_all_hooks(app, taskq, run):
    """A middleware that is added later still has its say."""
    heard = []

    class Failing(Middleware):
        def after_process_message(self, broker, message, *, result=None, exception=None):
            message.fail()

    def hear(app, exception, **extra):
        heard.append(exception)

    taskq.broker_for(app).add_middleware(Failing())
    signals.job_failed.connect(hear, sender=app)
    run(lambda: 1 / 0)
    assert len(heard) == 1


def test_a_queued_job_that_is_cancelled_is_told_once(app, taskq, ear):
    """Cancelling it again changes nothing."""
    actor = taskq.actor(lambda: None, actor_name="actor")
    with app.app_context():
        job = actor.send()
        job.cancel()
        job.cancel()
    assert ear.names == ["job-enqueued", "job-cancelled"]
    assert ear["job-cancelled"]["message"].message_id == job.id


def test_a_running_job_is_not_told_as_cancelled(ear, run):
    """It ends as it ends."""
    run(lambda: cancel_current())
    assert "job-cancelled" not in ear.names


def cancel_current():
    """Cancel the job that runs, from within."""
    current_app.extensions["taskq"].job(current_job.id).cancel()


def test_a_receiver_that_fails_harms_nobody(app, ear, run, caplog):
    """The job succeeds, the other receivers are called, and the log says which one."""

    def broken(app, **extra):
        raise RuntimeError("this receiver is broken")

    for signal in SIGNALS:
        signal.connect(broken, sender=app)
    with caplog.at_level(logging.ERROR):
        job = run(lambda: 5)
    assert job.refresh().get_result() == 5
    assert ear.names == ["job-enqueued", "job-started", "job-succeeded"]
    assert len(messages(caplog, logging.ERROR)) == 3
    assert "broken" in messages(caplog)[0]


def test_two_apps_hear_of_their_own_jobs(taskq, app, ear):
    """They share the actors."""
    other = make_app(taskq, "other")
    other_ear = Ear(other)
    actor = taskq.actor(lambda: None, actor_name="actor")
    with app.app_context():
        job = actor.send()
    drain(other)
    drain(app)
    assert ear["job-succeeded"]["message"].id == job.id
    assert other_ear.heard == []


def test_a_muted_signal_is_not_sent(ear, run):
    """As blinker's own send() has it."""
    with signals.job_started.muted():
        run(lambda: None)
    assert ear.names == ["job-enqueued", "job-succeeded"]


def test_a_worker_tells_when_it_starts_and_stops():
    """With its name and its queues."""
    taskq = TaskQ(clock=Clock())
    app = make_app(taskq)
    ear = Ear(app)
    taskq.actor(lambda: None, actor_name="actor")
    worker = Worker(taskq.broker_for(app), worker_threads=2)
    worker.start()
    with app.app_context():
        job = taskq.broker.actors["actor"].send()
        job.get_result(block=True)
    worker.stop(1_000)
    assert ear.names[0] == "worker-started"
    assert ear.names[-1] == "worker-stopping"
    assert ear["worker-started"] == {"worker_id": worker.id, "queues": ["default"]}
    assert ear["job-succeeded"]["message"].id == job.id


def test_a_dead_child_is_told(app, taskq, ear):
    """As the worker's process hears it from the supervisor."""
    death = {"worker_id": "w", "exit_code": -9, "job_ids": ["1"]}
    taskq.broker_for(app).emit_after("process_death", **death)
    assert ear["child-died"] == death


def test_a_dropped_app_is_collected(taskq):
    """Neither the middleware nor a receiver for this sender keeps it."""
    app = make_app(taskq)
    ear = Ear(app)
    app = weakref.ref(app)
    gc.collect()
    assert app() is None
    assert ear.heard == []

"""Two versions of an app at once: its web server sends what its worker does not know yet."""

from __future__ import annotations

import logging
from datetime import date

import pytest

from flask_taskq import Status
from flask_taskq.errors import ActorNotFound
from flask_taskq.jobs.message import Message
from flask_taskq.worker.runner import Runner
from tests.support.apps import declare
from tests.support.apps import Line
from tests.support.apps import messages

pytestmark = pytest.mark.every_engine

DAY = 24 * 3600 * 1000


@pytest.fixture
def line(new_broker, clock):
    return Line(new_broker(clock))


def old(order):
    return [order]


def new(order, notify=False):
    return [order, notify]


def deploy(line, fn, **options):
    """Replace the actor, as a new version of the app does."""
    line.broker.actors.clear()
    return declare(line.broker, fn, actor_name="ship", **options)


def record_of_misfit(line, sent_by=new, *args, run_by=old, **kwargs):
    """The record after one run of a job that another version of the actor has sent."""
    job = deploy(line, sent_by).send(*args, **kwargs)
    deploy(line, run_by)
    line.run_next()
    return job.refresh().record


def test_a_job_whose_arguments_fit_another_version_is_put_off(line, clock, caplog):
    """A worker that takes them may be on its way; no run is charged."""
    record = record_of_misfit(line, new, 1, notify=True)
    assert (record.status, record.status_reason) == (Status.SCHEDULED, "bad_arguments")
    assert (record.attempt, record.scheduled_for - clock.now()) == (0, 1_000)
    [text] = messages(caplog, logging.WARNING)
    assert (
        f"job {record.id} waits 1000 ms for another worker: actor 'ship' takes (order)" in text
    )
    assert "no parameter 'notify'" in text


def test_it_runs_once_the_version_that_sent_it_is_there(line, clock):
    """The deploy is complete."""
    record = record_of_misfit(line, new, 1, notify=True)
    deploy(line, new)
    clock.advance(1_000)
    line.run_next()
    record = line.record(record.id)
    assert (record.status, record.attempt) == (Status.SUCCEEDED, 1)
    assert record.result == b"[1,true]"


def test_an_annotation_that_changed_puts_a_job_off_too(line):
    """Text that is no date is a value of another version."""

    def by_text(day: str): ...

    def by_day(day: date): ...

    record = record_of_misfit(line, by_text, "tomorrow", run_by=by_day)
    assert (record.status, record.status_reason) == (Status.SCHEDULED, "bad_arguments")


@pytest.mark.needs("Callbacks")
def test_it_fails_after_a_day_and_its_callback_hears_of_it(line, clock):
    """The version that sent it has gone for good."""
    heard = declare(line.broker, lambda message, error: None, actor_name="heard")
    job = deploy(line, new).send_with_options(
        args=(1,), kwargs={"notify": True}, on_failure=heard
    )
    deploy(line, old)
    line.broker.declare_actor(heard)
    line.run_next()
    clock.advance(DAY)
    line.run_next()
    record = job.refresh().record
    assert (record.status, record.error.code) == (Status.FAILED, "bad_arguments")
    assert record.error.type == "BadArguments"
    assert "'notify'" in record.error.message
    assert line.run_next().delivery.actor == "heard"


def test_what_no_sender_has_checked_fails_at_once(line):
    """It was sent by the name of an actor that the sender did not know."""
    job = line.broker.enqueue(Message("default", "ship", (), {"notify": True}, {}))
    deploy(line, old)
    line.run_next()
    record = job.refresh().record
    assert (record.status, record.attempt) == (Status.FAILED, 1)
    assert record.error.code == "bad_arguments"


def test_a_type_that_no_sender_has_checked_fails_at_once(line):
    """The actor wants no checks: nobody else would take it."""

    def ship(day: date): ...

    job = deploy(line, ship, check_types=False).send("tomorrow")
    line.run_next()
    record = job.refresh().record
    assert (record.status, record.error.code) == (Status.FAILED, "bad_arguments")


@pytest.mark.parametrize("has_actor", [True, False])
def test_where_there_is_no_other_worker_nothing_is_put_off(line, has_actor):
    """As in the test kit: nobody would come."""
    line.runner = Runner(line.broker, may_release=False)
    job = deploy(line, new).send(1, notify=True)
    line.broker.actors.clear()
    if has_actor:
        deploy(line, old)
    line.run_next()
    record = job.refresh().record
    assert record.status is Status.FAILED
    assert record.error.code == ("bad_arguments" if has_actor else "unknown_actor")


def test_an_unknown_actor_is_told_with_what_to_do(line, caplog):
    """In the log of a worker, and in the record at last."""
    line.broker.enqueue(Message("default", "ship", (), {}, {}))
    line.run_next()
    [text] = messages(caplog, logging.WARNING)
    assert "no actor is named 'ship'" in text
    assert "TASKQ_ACTORS" in text
    with pytest.raises(ActorNotFound, match="TASKQ_ACTORS"):
        line.broker.get_actor("ship")


def test_a_message_over_a_limit_that_was_lowered_still_runs(new_broker, clock):
    """The limit is for senders: a job that was accepted is not lost to a configuration."""
    line = Line(new_broker(clock))
    job = declare(line.broker, lambda text: len(text), actor_name="measure").send("x" * 5_000)
    line.broker.settings = type(line.broker.settings)(
        broker_url=line.broker.settings.broker_url, max_message_size=1_000
    )
    line.runner = Runner(line.broker)
    assert line.run(job).result == b"5000"

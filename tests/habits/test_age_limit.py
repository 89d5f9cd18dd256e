"""Jobs that are too old when their turn comes."""

import logging
from datetime import datetime
from datetime import timedelta
from datetime import UTC

import pytest

from flask_taskq import Status
from flask_taskq.errors import ResultFailure
from flask_taskq.jobs.encoding import decode_message
from flask_taskq.middleware import DEFAULT
from flask_taskq.middleware.age_limit import AgeLimit
from tests.support.apps import declare
from tests.support.apps import Line
from tests.support.apps import messages
from tests.support.apps import Watcher

pytestmark = pytest.mark.needs("AgeLimit")


@pytest.fixture
def ran():
    return []


@pytest.fixture
def line(clock, new_broker):
    return Line(new_broker(clock, min_backoff=0))


def noting(line, ran, **options):
    """An actor that notes that it ran."""
    return declare(line.broker, lambda: ran.append(1), actor_name="note", **options)


def at(milliseconds):
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


@pytest.mark.every_engine
@pytest.mark.parametrize(("age", "runs"), [(0, True), (1_000, True), (1_001, False)])
@pytest.mark.parametrize("max_age", [1_000, timedelta(seconds=1)])
def test_a_job_older_than_its_maximum_does_not_run(line, clock, ran, max_age, age, runs):
    """At the limit it still does."""
    job = noting(line, ran, max_age=max_age).send()
    clock.advance(age)
    record = line.run(job)
    assert (record.status is Status.SUCCEEDED) is (ran == [1]) is runs


@pytest.mark.every_engine
def test_an_expired_job_says_so(line, clock, ran, caplog):
    """No run is charged, and it is no error."""
    caplog.set_level(logging.INFO)
    job = noting(line, ran, max_age=1_000).send()
    clock.advance(5_000)
    record = line.run(job)
    assert (record.status, record.attempt) == (Status.EXPIRED, 0)
    assert (record.error.type, record.error.code) == ("Expired", "expired")
    assert record.error.message == "older than its max_age of 1000 ms"
    assert (record.error.traceback, record.attempts) == (None, ())
    assert messages(caplog, logging.WARNING) == []
    assert f"job {job.id} expired: actor=note" in caplog.text
    with pytest.raises(ResultFailure, match="is expired: older than its max_age of 1000 ms"):
        job.get_result()


def test_hooks_hear_of_an_expired_job_as_of_one_that_was_skipped(line, clock, ran):
    """It did not fail, and its actor did not run."""
    watcher = Watcher()
    line.broker.add_middleware(watcher)
    noting(line, ran, max_age=1_000).send()
    clock.advance(5_000)
    line.run_next()
    (message,), _ = watcher.given["after_skip_message"]
    assert (message.expired, message.failed) == (True, False)
    assert "after_process_message" not in watcher.seen


@pytest.mark.needs("Callbacks")
def test_nobody_is_called_back_for_an_expired_job(line, clock, ran):
    """It is neither a success nor a failure."""
    noting(line, ran, max_age=0, on_success="note", on_failure="note").send()
    clock.advance(1)
    assert line.run_next().follow_ups == ()


@pytest.mark.parametrize(
    ("actor", "message", "runs"),
    [
        ({"max_age": 1_000}, {"max_age": 9_000}, True),
        ({"max_age": 9_000}, {"max_age": 1_000}, False),
        ({"max_age": 1_000}, {"max_age": float("inf")}, True),
        ({"max_age": 1_000}, {"max_age": None}, False),
        ({}, {"max_age": timedelta(seconds=1)}, False),
    ],
)
def test_a_messages_maximum_beats_the_actors(line, clock, ran, actor, message, runs):
    """As with any option; infinity is no limit, and None is none of its own."""
    noting(line, ran, **actor).send_with_options(**message)
    clock.advance(5_000)
    line.run_next()
    assert (ran == [1]) is runs


def test_the_middleware_can_have_a_maximum_for_all(clock, ran, new_broker):
    """An actor's own is over it."""
    line = Line(new_broker(clock, AgeLimit(max_age=1_000), habits=()))
    job = noting(line, ran).send()
    other = declare(line.broker, lambda: 1, actor_name="other", max_age=9_000).send()
    clock.advance(5_000)
    assert line.run(job).status is Status.EXPIRED
    assert line.run(other).status is Status.SUCCEEDED


@pytest.mark.parametrize(("late", "runs"), [(-1, True), (0, True), (1, False)])
@pytest.mark.parametrize("kind", [int, datetime, "elsewhere"])
def test_a_job_whose_moment_is_over_does_not_run(line, clock, ran, kind, late, runs):
    """It is given as a datetime of any zone, or in milliseconds."""
    expires = clock.now() + 1_000
    moment = expires if kind is int else at(expires)
    if kind == "elsewhere":
        moment = moment.astimezone(tz=None)
    job = noting(line, ran).send_with_options(expires=moment)
    assert decode_message(job.record.message, 10_000).options == {"expires": expires}
    clock.advance(1_000 + late)
    record = line.run(job)
    assert (record.status is Status.SUCCEEDED) is (ran == [1]) is runs
    if not runs:
        assert record.error.message == "its time to begin was over 1 ms ago"


def test_of_two_limits_the_earlier_counts(line, clock, ran):
    """Whichever it is."""
    actor = noting(line, ran, max_age=1_000)
    job = actor.send_with_options(expires=clock.now() + 9_000)
    clock.advance(5_000)
    assert line.run(job).status is Status.EXPIRED
    job = actor.send_with_options(expires=clock.now() + 500, max_age=9_000)
    clock.advance(501)
    assert line.run(job).status is Status.EXPIRED


@pytest.mark.needs("Retries")
def test_a_retry_that_comes_too_late_has_expired(line, clock):
    """The attempt that there was stays in the record."""
    job = declare(line.broker, lambda: 1 / 0, actor_name="fail", max_age=1_000).send()
    line.run(job)
    clock.advance(1_001)
    record = line.run(job)
    assert (record.status, record.attempt) == (Status.EXPIRED, 1)
    assert [attempt.error.type for attempt in record.attempts] == ["ZeroDivisionError"]


def test_a_run_that_has_begun_is_not_stopped(line, clock):
    """What it brings is kept."""
    actor = declare(line.broker, lambda: clock.advance(5_000), actor_name="slow", max_age=1_000)
    assert line.run(actor.send()).status is Status.SUCCEEDED


def test_a_moment_without_a_zone_is_an_error(line, ran):
    """It would be another one on another machine."""
    actor = noting(line, ran)
    with pytest.raises(ValueError, match="expires is .*, without a time zone"):
        actor.send_with_options(expires=datetime(2030, 1, 1))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_age": -1}, "max_age is -1; it is milliseconds as an int from 0"),
        ({"max_age": "1000"}, "max_age is '1000'; it is milliseconds"),
        ({"max_age": True}, "max_age is True; it is milliseconds"),
        ({"max_age": 10**15}, "max_age is 10*; it is at most 6,000 years"),
        ({"expires": "tomorrow"}, "expires is 'tomorrow'; it is an aware datetime"),
        ({"expires": 10**15}, "expires is 10*, which is after the year 9999"),
    ],
)
def test_an_option_of_the_wrong_kind_is_an_error_of_the_declaration(line, ran, options, text):
    """Its text says what it should be."""
    with pytest.raises(ValueError, match=f"actor 'note': {text}"):
        noting(line, ran, **options)


def test_a_wrong_maximum_for_all_is_an_error_at_once():
    """Not when the first job runs."""
    with pytest.raises(ValueError, match="max_age is -5"):
        AgeLimit(max_age=-5)


def test_without_the_middleware_its_options_are_unknown(clock, ran, new_broker):
    """The rest works as if there were no limit."""
    habits = [habit for habit in DEFAULT if habit is not AgeLimit]
    line = Line(new_broker(clock, habits=habits))
    with pytest.raises(ValueError, match="max_age"):
        noting(line, ran, max_age=1)
    assert line.run(noting(line, ran).send()).status is Status.SUCCEEDED

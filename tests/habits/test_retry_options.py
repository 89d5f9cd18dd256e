"""What an actor can say of its errors, and what it can raise to say more."""

import logging
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_taskq import Middleware
from flask_taskq import Status
from flask_taskq.clock import END_OF_TIME
from flask_taskq.errors import BadArguments
from flask_taskq.errors import Cancel
from flask_taskq.errors import ResultFailure
from flask_taskq.errors import Retry
from flask_taskq.errors import Snooze
from flask_taskq.jobs.delivery import Retried
from flask_taskq.middleware.retries import Retries
from flask_taskq.testing.clock import ManualClock
from tests.support.apps import declare
from tests.support.apps import Line
from tests.support.apps import make_broker
from tests.support.apps import messages
from tests.support.apps import Watcher

pytestmark = pytest.mark.needs("Retries")


class Timeout(Exception):
    """An error that an actor expects."""


class SlowTimeout(Timeout):
    """A special one."""


@pytest.fixture
def line(clock, new_broker):
    return Line(new_broker(clock, min_backoff=0))


def raising(line, *exceptions, **options):
    """An actor that raises these one after the other, the last one for ever."""
    left = list(exceptions)

    @declare(line.broker, **options)
    def fail():
        raise left.pop(0) if len(left) > 1 else left[0]

    return fail


def run_to_the_end(line, job):
    """Run a job until it is final; its record."""
    record = job.record
    while not record.status.is_final:
        if record.scheduled_for is not None:
            line.broker.clock.advance(max(0, record.scheduled_for - line.broker.clock.now()))
        record = line.run(job)
    return record


# throws


@pytest.mark.every_engine
@pytest.mark.parametrize("throws", [Timeout, (KeyError, Timeout)])
@pytest.mark.parametrize("exception", [Timeout("no"), SlowTimeout("no")])
def test_what_an_actor_throws_fails_the_job_at_once(line, throws, exception):
    """A class or a tuple, and whatever is derived from it."""
    record = line.run(raising(line, exception, throws=throws).send())
    assert (record.status, record.attempt) == (Status.FAILED, 1)
    assert record.error.code == "exception"


@pytest.mark.every_engine
def test_what_an_actor_does_not_throw_is_retried(line):
    """As without the option."""
    record = line.run(raising(line, ValueError("no"), throws=Timeout).send())
    assert record.status is Status.SCHEDULED


# discard_on


def test_a_discarded_job_is_cancelled_and_keeps_the_error(line, caplog):
    """It is no failure: nobody is alarmed, and ``nack`` hooks hear nothing."""
    caplog.set_level(logging.INFO)
    watcher = Watcher()
    line.broker.add_middleware(watcher)
    job = raising(line, Timeout("gone"), discard_on=Timeout).send()
    record = line.run(job)
    assert (record.status, record.attempt) == (Status.CANCELLED, 1)
    assert (record.error.type, record.error.message) == ("Timeout", "gone")
    assert record.error.code == "discarded"
    assert "raise left" in record.error.traceback
    [line_of_log] = messages(caplog)
    assert f"job {job.id} discarded by Timeout: actor=fail" in line_of_log
    assert caplog.records[0].levelno == logging.INFO
    with pytest.raises(ResultFailure, match="is cancelled: gone") as failure:
        job.get_result()
    assert failure.value.orig_exc_type == "Timeout"


def test_throws_comes_before_discard_on(line):
    """The stricter word counts."""
    actor = raising(line, SlowTimeout(), throws=SlowTimeout, discard_on=Timeout)
    assert line.run(actor.send()).status is Status.FAILED


def test_a_context_that_fails_after_a_discarded_run_is_an_error_of_its_own(clock, new_broker):
    """The table is asked about the new error."""

    class Failing(Middleware):
        def around_process_message(self, broker, message):
            class Context:
                def __enter__(self):
                    pass

                def __exit__(self, *exc_info):
                    raise KeyError("rollback")

            return Context()

    line = Line(new_broker(clock, Failing()))
    record = line.run(raising(line, Timeout(), discard_on=Timeout).send())
    assert (record.status, record.error.type) == (Status.SCHEDULED, "KeyError")


# retry_on


def test_a_table_says_for_each_error_how_often_and_how_soon(clock, new_broker):
    """What its row does not say is as for any other error."""
    line = Line(new_broker(clock, max_retries=1, min_backoff=1_000, max_backoff=10_000))
    table = {Timeout: {"max_retries": 2, "min_backoff": 50}, KeyError: {"max_retries": 0}}
    actor = raising(line, Timeout(), retry_on=table)
    record = line.run(actor.send())
    assert 50 <= record.scheduled_for - clock.now() <= 100
    other = raising(line, ValueError(), retry_on=table, actor_name="other")
    record = line.run(other.send())
    assert 1_000 <= record.scheduled_for - clock.now() <= 2_000
    never = raising(line, KeyError(), retry_on=table, actor_name="never")
    assert line.run(never.send()).status is Status.FAILED


def test_the_nearest_class_counts(line):
    """Whatever the order of the table."""
    table = {Exception: {"max_retries": 9}, SlowTimeout: {"max_retries": 0}, Timeout: {}}
    record = line.run(raising(line, SlowTimeout(), retry_on=table).send())
    assert record.status is Status.FAILED


def test_all_retries_of_a_job_count_against_the_row(line):
    """Errors that take turns do not keep a job alive for ever."""
    actor = raising(
        line, Timeout(), Timeout(), Timeout(), KeyError("k"), retry_on={KeyError: {}}
    )
    record = run_to_the_end(line, actor.send())
    assert (record.attempt, record.error.type) == (4, "KeyError")


def test_the_record_shows_the_most_runs_that_the_table_allows(line):
    """So that no attempt has a number over the maximum."""
    table = {Timeout: {"max_retries": 8}, KeyError: {"min_backoff": 1}}
    assert raising(line, Timeout(), retry_on=table).send().record.max_attempts == 9
    endless = {Timeout: {"max_retries": None}}
    actor = raising(line, Timeout(), retry_on=endless, actor_name="endless")
    assert actor.send().record.max_attempts is None


def test_a_messages_own_number_beats_the_table(line):
    """As it beats everything that an actor says."""
    actor = raising(line, Timeout(), retry_on={Timeout: {"max_retries": 8}})
    job = actor.send_with_options(max_retries=1)
    assert job.record.max_attempts == 2
    assert run_to_the_end(line, job).attempt == 2


# retry_when


def test_retry_when_decides_alone(line):
    """With the number of retries so far, and the exception."""
    asked = []

    def retry_when(retries, exception):
        asked.append((retries, str(exception)))
        return retries < 5

    job = raising(line, Timeout("no"), retry_when=retry_when, max_retries=0).send()
    assert job.record.max_attempts is None
    record = run_to_the_end(line, job)
    assert (record.status, record.attempt) == (Status.FAILED, 6)
    assert asked == [(retries, "no") for retries in range(6)]


def test_retry_when_can_be_given_to_the_middleware(clock, new_broker):
    """For all actors that have none."""
    retries = Retries(min_backoff=0, retry_when=lambda retries, exception: retries < 1)
    line = Line(new_broker(clock, retries, habits=()))
    assert run_to_the_end(line, raising(line, Timeout()).send()).attempt == 2


class Undecided:
    """What has no truth value, such as an array of numbers."""

    def __bool__(self):
        raise ValueError("neither true nor false")


@pytest.mark.parametrize(
    ("retry_when", "text"),
    [
        (lambda retries: True, "takes 1 positional argument"),
        (lambda retries, exception: exception.code, "has no attribute 'code'"),
        (lambda retries, exception: Undecided(), "neither true nor false"),
    ],
)
def test_a_retry_when_that_fails_costs_no_retry(line, caplog, retry_when, text):
    """The number of retries decides in its place; what it has raised is in the log."""
    actor = raising(line, Timeout("no"), retry_when=retry_when, max_retries=2)
    job = actor.send()
    record = line.run(job)
    assert (record.status, record.error.type) == (Status.SCHEDULED, "Timeout")
    assert text in caplog.text
    assert f"job {job.id} of actor 'fail': retry_when has failed" in caplog.text
    assert run_to_the_end(line, job.refresh()).attempt == 3


def test_a_retry_when_that_failed_once_decides_the_next_time(line):
    """It is asked again with each run."""

    def retry_when(retries, exception):
        if retries == 0:
            raise LookupError
        return retries < 5

    job = raising(line, Timeout("no"), retry_when=retry_when, max_retries=1).send()
    assert run_to_the_end(line, job).attempt == 6


# Declaring


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"throws": "Timeout"}, "throws is 'Timeout'; it is a class of exceptions"),
        ({"throws": [Timeout]}, "throws is .*; it is a class of exceptions or a tuple"),
        ({"discard_on": (Timeout, int)}, "discard_on is .*; it is a class"),
        ({"retry_on": Timeout}, "retry_on is .*; it is a dict"),
        ({"retry_on": {"Timeout": {}}}, "retry_on has the key 'Timeout'; each is a class"),
        ({"retry_on": {(Timeout,): {}}}, "retry_on has the key .*; each is a class"),
        (
            {"retry_on": {Timeout: {"retries": 3}}},
            "retry_on has .* for Timeout; it can say max_b",
        ),
        ({"retry_on": {Timeout: 3}}, "retry_on has 3 for Timeout; it can say"),
        ({"retry_when": True}, "retry_when is True; it is a function"),
        ({"min_backoff": 10**15}, "min_backoff is 10*; it is at most 6,000 years"),
        ({"max_backoff": timedelta.max}, "max_backoff is .*; it is at most 6,000 years"),
        (
            {"retry_on": {Timeout: {"min_backoff": 10**15}}},
            "retry_on for Timeout: min_backoff is 10*; it is at most 6,000 years",
        ),
    ],
)
def test_an_option_of_the_wrong_kind_is_an_error_of_the_declaration(line, options, text):
    """Its text says what it should be."""
    with pytest.raises(ValueError, match=f"actor 'fail': {text}"):
        raising(line, Timeout(), **options)
    assert line.broker.get_declared_actors() == set()


@pytest.mark.parametrize("name", ["throws", "discard_on", "retry_on", "retry_when"])
@pytest.mark.parametrize("value", [Timeout, {}])
def test_what_is_no_json_can_only_be_declared(line, name, value):
    """On a message it is an error that says so, also where this value would be JSON."""
    actor = raising(line, Timeout())
    with pytest.raises(BadArguments, match=f"option {name!r} cannot be sent .* declared"):
        actor.send_with_options(**{name: value})


def test_such_an_option_in_a_stored_message_means_nothing(line):
    """Somebody else wrote it: the actor's own counts."""
    actor = raising(line, Timeout(), throws=Timeout)
    job_id = line.put(actor.message_with_options(throws=["KeyError"]))
    line.run_next()
    assert line.record(job_id).status is Status.FAILED


def test_the_record_tells_what_happened_in_each_attempt(line, clock):
    """Also where the last one went well."""
    actor = raising(line, Timeout("first"), KeyError("second"), Cancel("enough"))
    record = run_to_the_end(line, actor.send())
    assert [(one.number, one.error.type) for one in record.attempts] == [
        (1, "Timeout"),
        (2, "KeyError"),
        (3, "Cancel"),
    ]
    assert all("raise left" in one.error.traceback for one in record.attempts)
    assert {one.started_at for one in record.attempts} == {clock.now()}


class Named(type):
    """A class with half a surrogate pair in its name."""

    @property
    def __name__(cls):
        return "na\udce9"


class Odd(Exception, metaclass=Named):
    """One of these."""


def test_an_error_whose_class_has_an_unreadable_name_is_kept(line):
    """As its text would be."""
    record = line.run(raising(line, Odd("no"), max_retries=0).send())
    assert (record.status, record.error.code) == (Status.FAILED, "exception")
    assert (record.error.type, record.error.message) == (r"na\udce9", "no")


# What an actor can raise


def test_an_actor_can_ask_to_run_again(line, caplog, clock):
    """It is charged, keeps why, and is not logged as an error."""
    caplog.set_level(logging.INFO)
    job = raising(line, Retry("not ready", delay=700)).send()
    record = line.run(job)
    assert (record.status, record.attempt) == (Status.SCHEDULED, 1)
    assert record.scheduled_for == clock.now() + 700
    assert (record.error.type, record.error.message) == ("Retry", "not ready")
    assert messages(caplog, logging.WARNING) == []
    assert f"job {job.id} runs again in 700 ms" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_retry_without_a_delay_has_the_backoff(clock, new_broker):
    """As an error would."""
    line = Line(new_broker(clock, min_backoff=1_000))
    record = line.run(raising(line, Retry()).send())
    assert 1_000 <= record.scheduled_for - clock.now() <= 2_000


def test_a_retry_after_the_last_one_fails_the_job(line):
    """It is one of the job's retries."""
    record = run_to_the_end(line, raising(line, Retry(delay=0)).send())
    assert (record.status, record.attempt) == (Status.FAILED, 4)


def test_a_snoozed_job_runs_later_and_is_not_charged(line, clock, caplog):
    """However often it does so."""
    caplog.set_level(logging.INFO)
    job = raising(line, *[Snooze(timedelta(seconds=2))] * 9, ValueError(), max_retries=0).send()
    for _ in range(9):
        record = line.run(job)
        assert (record.status, record.attempt, record.error) == (Status.SCHEDULED, 0, None)
        assert (record.scheduled_for - clock.now(), record.status_reason) == (2_000, "snoozed")
        clock.advance(2_000)
    assert messages(caplog, logging.WARNING) == []
    assert f"job {job.id} snoozed" in caplog.text
    record = line.run(job)
    assert (record.status, record.attempt) == (Status.FAILED, 1)


def test_a_job_that_is_to_be_cancelled_is_not_snoozed(line):
    """It would run again, which is what the cancelling forbids."""

    @declare(line.broker)
    def snooze():
        job.cancel()
        raise Snooze(1_000)

    job = snooze.send()
    assert line.run(job).status is Status.CANCELLED


def test_an_actor_can_cancel_its_job(line, caplog):
    """For a reason that clients of the job can read."""
    caplog.set_level(logging.INFO)
    job = raising(line, Cancel("the account is closed")).send()
    record = line.run(job)
    assert (record.status, record.attempt) == (Status.CANCELLED, 1)
    assert (record.error.code, record.error.message) == ("cancelled", "the account is closed")
    assert messages(caplog, logging.WARNING) == []
    with pytest.raises(ResultFailure, match="is cancelled: the account is closed"):
        job.get_result()


@pytest.mark.parametrize(
    ("exception", "status"),
    [(Snooze(500), Status.SCHEDULED), (Cancel("no"), Status.CANCELLED)],
)
def test_a_hook_can_put_a_job_off_or_cancel_it(line, exception, status):
    """As an actor can; the actor does not run."""

    class Guard(Middleware):
        def before_process_message(self, broker, message):
            raise exception

    line.broker.add_middleware(Guard())
    ran = []
    job = declare(line.broker, lambda: ran.append(1), actor_name="actor").send()
    assert line.run(job).status is status
    assert ran == []


@pytest.mark.parametrize("make", [Snooze, lambda delay: Retry(delay=delay)])
@pytest.mark.parametrize("delay", [1.5, "1000"])
def test_a_delay_that_is_no_duration_is_an_error_where_it_is_given(make, delay):
    """The traceback shows the line of the actor."""
    with pytest.raises(TypeError, match="it is milliseconds as an int, or a timedelta"):
        make(delay)


@pytest.mark.parametrize("make", [Snooze, lambda delay: Retry(delay=delay)])
@pytest.mark.parametrize("delay", [10**15, 10**30, timedelta.max, timedelta(days=3_000_000)])
def test_a_delay_beyond_all_dates_fails_the_run(line, make, delay):
    """At the line of the actor, and with what was wrong; the job goes on as after any error."""

    @declare(line.broker, max_retries=1)
    def wait():
        raise make(delay)

    job = wait.send()
    record = run_to_the_end(line, job)
    assert (record.status, record.attempt) == (Status.FAILED, 2)
    assert record.error.type == "ValueError"
    assert "at most 6,000 years: is it in milliseconds?" in record.error.message
    assert "raise make(delay)" in record.error.traceback


def test_a_hook_that_puts_a_job_off_beyond_all_dates_fails_it(line, caplog):
    """What is wrong with the hook is in the log."""

    class Never(Middleware):
        def after_process_message(self, broker, message, *, result=None, exception=None):
            message.retry(10**18)

    line.broker.add_middleware(Never())
    record = line.run(raising(line, Timeout("no"), max_retries=0).send())
    assert (record.status, record.error.message) == (Status.FAILED, "no")
    assert "it is at most 6,000 years" in caplog.text


def test_no_time_is_stored_that_no_date_can_say(line):
    """Whatever a subclass has done to the delay."""
    never = Snooze(1)
    never.delay = 10**18
    record = line.run(raising(line, never).send())
    assert (record.status, record.scheduled_for) == (Status.SCHEDULED, END_OF_TIME)


@pytest.mark.parametrize("exception", [Snooze(0), Cancel()])
def test_what_says_its_outcome_itself_is_not_in_the_table(line, exception):
    """Not even under the class of all exceptions."""
    watcher = Watcher()
    line.broker.add_middleware(watcher)
    line.run(raising(line, exception, throws=Exception).send())
    (message,), told = watcher.given["after_process_message"]
    assert (message.failed, told["exception"]) == (False, exception)


# The schedule as a whole

delays = st.sampled_from([None, 0, 1, 5_000])
outcomes = st.sampled_from(["error", "timeout", "retry", "snooze"])


@given(
    happens=st.lists(st.tuples(outcomes, delays), min_size=1, max_size=12),
    max_retries=st.integers(0, 4),
    timeouts=st.integers(0, 6),
    min_backoff=st.integers(0, 1_000),
)
def test_whatever_an_actor_raises_its_runs_are_counted(
    happens, max_retries, timeouts, min_backoff
):
    """Every charged run is one attempt, none runs too early, none follows the last one."""
    clock = ManualClock()
    line = Line(make_broker(clock, max_retries=max_retries, min_backoff=min_backoff))
    left = list(happens)

    @declare(line.broker, retry_on={Timeout: {"max_retries": timeouts}})
    def act():
        if not left:
            return "done"
        kind, delay = left.pop(0)
        match kind:
            case "error":
                raise ValueError
            case "timeout":
                raise Timeout
            case "retry":
                raise Retry(delay=delay)
            case _:
                raise Snooze(delay or 0)

    job = act.send()
    charged = 0
    for kind, delay in happens:
        now = clock.now()
        charged += kind != "snooze"
        settlement = line.run_next()
        record = line.record(job.id)
        assert record.attempt == charged <= record.max_attempts
        limit = timeouts if kind == "timeout" else max_retries
        if kind != "snooze" and charged > limit:
            assert record.status is Status.FAILED
            return
        assert record.status is Status.SCHEDULED
        wait = record.scheduled_for - now
        if kind == "snooze" or (kind == "retry" and delay is not None):
            assert wait == (delay or 0)
        else:
            assert isinstance(settlement, Retried)
            least = min_backoff * 2 ** (charged - 1)
            assert least <= wait <= 2 * least
        clock.advance(wait)
    line.run_next()
    assert line.record(job.id).status is Status.SUCCEEDED

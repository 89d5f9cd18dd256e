"""Which actor is called when a job has ended, and with what."""

import math
from datetime import date

import pytest

from flask_taskq import Middleware
from flask_taskq import Status
from flask_taskq.errors import Cancel
from flask_taskq.errors import Shutdown
from flask_taskq.errors import SkipMessage
from flask_taskq.errors import Snooze
from flask_taskq.jobs.encoding import decode_message
from flask_taskq.middleware import DEFAULT
from flask_taskq.middleware.callbacks import Callbacks
from flask_taskq.middleware.retries import Retries
from tests.support.apps import declare
from tests.support.apps import Line
from tests.support.apps import Watcher

pytestmark = pytest.mark.needs("Callbacks")


@pytest.fixture
def line(clock, new_broker):
    return Line(new_broker(clock, min_backoff=0, max_retries=2, max_message_size=2_000))


@pytest.fixture
def calls(line):
    """What the actors ``succeeded``, ``failed`` and ``exhausted`` were called with, in order.

    They are found by name, and run when :func:`run_all` runs them.
    """
    calls = []
    for name in ("succeeded", "failed", "exhausted"):

        def call(message, outcome, name=name):
            calls.append((name, message, outcome))

        declare(line.broker, call, actor_name=name)
    return calls


def acting(line, outcome, **options):
    """An actor that returns this, or raises it."""

    def act(x=1):
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    options = {"on_success": "succeeded", "on_failure": "failed", **options}
    return declare(line.broker, act, **options)


def run_all(line, limit=20):
    """Run what may run now, until nothing is left."""
    for _ in range(limit):
        if not line.engine.queues.depths():
            return
        line.run_next()


@pytest.mark.every_engine
def test_an_actor_is_called_when_a_job_has_succeeded(line, calls):
    """With the message as a dict, and the result."""
    job = acting(line, {"rows": 3}).send(7)
    run_all(line)
    [(name, message, result)] = calls
    assert (name, result) == ("succeeded", {"rows": 3})
    assert (message["message_id"], message["actor_name"]) == (job.id, "act")
    assert (message["args"], message["kwargs"]) == ([7], {})


@pytest.mark.every_engine
def test_a_result_whose_type_the_callback_does_not_name_is_passed_on_as_json(line, calls):
    """It is text that a client of the job would see; a callback is not lost for it."""

    @declare(line.broker, on_success="succeeded")
    def today() -> date:
        return date(2026, 1, 1)

    today.send()
    run_all(line)
    assert [outcome for _, _, outcome in calls] == ["2026-01-01"]


@pytest.mark.every_engine
@pytest.mark.needs("Retries")
def test_an_actor_is_called_once_when_a_job_has_failed_for_good(line, calls):
    """Not for the failures that are followed by another run."""
    job = acting(line, ValueError("no")).send()
    run_all(line)
    assert job.refresh().record.attempt == 3
    [(name, message, error)] = calls
    assert (name, message["message_id"]) == ("failed", job.id)
    assert error == {"type": "ValueError", "message": "no"}


@pytest.mark.every_engine
@pytest.mark.needs("Retries")
def test_a_retry_that_succeeds_at_last_calls_for_the_success_alone(line, calls):
    """The job did not fail."""
    outcomes = iter([ValueError("no"), "yes"])

    @declare(line.broker, on_success="succeeded", on_failure="failed")
    def flaky():
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    flaky.send()
    run_all(line)
    assert [(name, outcome) for name, _, outcome in calls] == [("succeeded", "yes")]


@pytest.mark.needs("Retries")
def test_an_error_that_is_thrown_calls_at_once(line, calls):
    """It is final."""
    acting(line, ValueError("no"), throws=ValueError, on_retry_exhausted="exhausted").send()
    run_all(line)
    assert [name for name, _, _ in calls] == ["failed"]


def test_a_run_that_goes_back_calls_nobody(line, calls):
    """Its worker stops, and it is not the end of the job."""

    def stop():
        line.runner.current.interrupt(Shutdown, math.inf)
        raise Shutdown

    declare(line.broker, stop, actor_name="stop", on_failure="failed").send()
    assert line.run_next().follow_ups == ()


@pytest.mark.needs("Retries")
@pytest.mark.parametrize(
    ("exception", "options"),
    [
        (Snooze(1_000), {}),
        (Cancel("no"), {}),
        (SkipMessage(), {}),
        (KeyError("no"), {"discard_on": KeyError}),
    ],
)
def test_what_is_neither_success_nor_failure_calls_nobody(line, calls, exception, options):
    """Nobody waits for it."""
    settlement = None
    acting(line, exception, max_retries=0, **options).send()
    settlement = line.run_next()
    assert settlement.follow_ups == ()


def test_a_result_that_cannot_be_stored_calls_for_the_failure(line, calls):
    """The run went well, and the job did not."""
    acting(line, object()).send()
    run_all(line)
    [(name, _, error)] = calls
    assert (name, error["type"]) == ("failed", "BadResult")


def test_a_context_that_fails_at_the_end_calls_for_the_failure_alone(clock, new_broker):
    """A transaction that could not be committed takes the success with it."""

    class Failing(Middleware):
        def around_process_message(self, broker, message):
            class Context:
                def __enter__(self):
                    pass

                def __exit__(self, *exc_info):
                    raise KeyError("commit")

            return Context()

    line = Line(new_broker(clock, Failing(), max_retries=0))
    for name in ("succeeded", "failed"):
        declare(line.broker, lambda message, outcome: None, actor_name=name)
    acting(line, 1).send()
    [envelope] = line.run_next().follow_ups
    assert envelope.actor == "failed"


def test_a_job_without_callbacks_has_no_follow_up(line):
    """The rule."""
    acting(line, 1, on_success=None, on_failure=None).send()
    assert line.run_next().follow_ups == ()


@pytest.mark.parametrize("where", ["actor", "message"])
def test_a_callback_can_be_given_as_an_actor(line, calls, where):
    """It is turned into its name, in an actor's options and in a message's."""
    succeeded = line.broker.get_actor("succeeded")
    if where == "actor":
        actor = acting(line, 1, on_success=succeeded)
        assert actor.options["on_success"] == "succeeded"
        actor.send()
    else:
        actor = acting(line, 1, on_success=None)
        job = actor.send_with_options(on_success=succeeded)
        message = decode_message(job.record.message, 10_000)
        assert message.options == {"on_success": "succeeded"}
    run_all(line)
    assert [name for name, _, _ in calls] == ["succeeded"]


@pytest.mark.parametrize("name", ["on_success", "on_failure", "on_retry_exhausted"])
@pytest.mark.parametrize("value", [5, print, ["succeeded"]])
def test_a_callback_that_is_no_actor_is_an_error(line, name, value):
    """Where it is given."""
    actor = acting(line, 1)
    with pytest.raises(TypeError, match=f"{name} is .*; it is an actor or the name of one"):
        actor.send_with_options(**{name: value})
    with pytest.raises(TypeError, match=f"{name} is .*; it is an actor or the name of one"):
        acting(line, 1, actor_name="other", **{name: value})


def test_a_callback_that_is_unknown_leaves_the_outcome_alone(line, calls, caplog):
    """The log says what is missing."""
    job = acting(line, 1, on_success="unheard").send()
    run_all(line)
    assert job.refresh().status is Status.SUCCEEDED
    assert "no actor is named 'unheard'" in caplog.text


def test_a_callback_that_is_too_large_leaves_the_outcome_alone(line, calls, caplog):
    """Likewise."""
    job = acting(line, "x" * 3_000).send()
    run_all(line)
    assert (job.refresh().status, calls) == (Status.SUCCEEDED, [])
    assert "TASKQ_MAX_MESSAGE_SIZE" in caplog.text


@pytest.mark.parametrize("text", ["no file \udcff", "x" * 100_000], ids=ascii)
def test_an_error_of_any_text_can_be_told(clock, text, new_broker):
    """It is escaped, and cut."""
    line = Line(new_broker(clock, max_retries=0))
    declare(line.broker, lambda message, outcome: None, actor_name="failed")
    acting(line, ValueError(text)).send()
    assert len(line.run_next().follow_ups) == 1


@pytest.mark.needs("Retries")
def test_a_callback_that_fails_is_a_job_that_fails(line):
    """With retries, and without any effect on the first one."""

    @declare(line.broker)
    def succeeded(message, result):
        raise ValueError("callback")

    job = acting(line, 1).send()
    settlement = line.run_next()
    run_all(line)
    assert job.refresh().status is Status.SUCCEEDED
    record = line.record(settlement.follow_ups[0].id)
    assert (record.status, record.attempt) == (Status.FAILED, 3)


def test_hooks_hear_of_a_callback_as_of_any_message(line, calls):
    """Before it is made, so that they can add to it."""
    watcher = Watcher()
    line.broker.add_middleware(watcher)
    acting(line, 1).send()
    line.run_next()
    (message, delay), _ = watcher.given["before_enqueue"]
    assert (message.actor_name, delay) == ("succeeded", None)


# When no retry follows


@pytest.mark.needs("Retries")
def test_an_actor_is_called_when_the_retries_are_used_up(line, calls):
    """With the message as a dict, and the numbers."""
    job = acting(line, ValueError("no"), on_retry_exhausted="exhausted").send()
    run_all(line)
    told = {name: (message["message_id"], outcome) for name, message, outcome in calls}
    assert told["exhausted"] == (job.id, {"retries": 2, "max_retries": 2})
    assert set(told) == {"failed", "exhausted"}


@pytest.mark.needs("Retries")
def test_an_actor_is_called_when_retry_when_says_no(line, calls):
    """Nothing follows then either."""
    acting(
        line,
        ValueError("no"),
        on_failure=None,
        on_retry_exhausted=line.broker.get_actor("exhausted"),
        retry_when=lambda retries, exception: False,
    ).send()
    run_all(line)
    assert [(name, outcome["retries"]) for name, _, outcome in calls] == [("exhausted", 0)]


# The list


@pytest.mark.needs("Retries")
def test_callbacks_are_decided_after_retries():
    """After hooks run in reverse."""
    assert DEFAULT.index(Callbacks) < DEFAULT.index(Retries)


def test_without_retries_a_failure_is_final(clock, new_broker):
    """The one habit does not need the other."""
    line = Line(new_broker(clock, habits=(Callbacks,)))
    declare(line.broker, lambda message, outcome: None, actor_name="failed")
    acting(line, ValueError("no")).send()
    [envelope] = line.run_next().follow_ups
    assert envelope.actor == "failed"


def test_without_callbacks_retries_go_on(clock, new_broker):
    """Nor the other way round; its options are unknown then."""
    line = Line(new_broker(clock, habits=(Retries,)))
    with pytest.raises(ValueError, match="on_success"):
        acting(line, 1)
    job = declare(line.broker, lambda: 1 / 0, actor_name="fail").send()
    assert line.run(job).status is Status.SCHEDULED

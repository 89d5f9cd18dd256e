"""One delivery in, one settlement out."""

import asyncio
import dataclasses
import gc
import logging
import math
import sys
import threading
import traceback
import weakref
from contextlib import contextmanager
from contextvars import ContextVar

import pytest

from flask_taskq import Message
from flask_taskq import Middleware
from flask_taskq import Status
from flask_taskq.errors import LeaseLost
from flask_taskq.errors import Retry as RetryError
from flask_taskq.errors import Shutdown
from flask_taskq.errors import SkipMessage
from flask_taskq.errors import Snooze
from flask_taskq.jobs.delivery import Failed
from flask_taskq.jobs.delivery import Released
from flask_taskq.jobs.delivery import Retried
from flask_taskq.jobs.delivery import Succeeded
from flask_taskq.jobs.encoding import encode_message
from flask_taskq.jobs.message import generate_id
from flask_taskq.worker.runner import Runner
from tests.support.apps import declare
from tests.support.apps import Line
from tests.support.apps import make_broker
from tests.support.apps import messages
from tests.support.apps import once
from tests.support.apps import Watcher

DAY = 24 * 3600 * 1000
CANARY = "canary-7f3a"


@pytest.fixture
def watcher():
    return Watcher()


@pytest.fixture
def line(clock, watcher):
    return Line(make_broker(clock, watcher, max_result_size=1_000, max_message_size=2_000))


def run_one(line, fn, *args, **options):
    """Send a function as an actor and run it; its record."""
    actor = declare(line.broker, fn, **{"actor_name": "actor", **options})
    return line.run(actor.send(*args))


def raising(exception):
    def fail():
        raise exception

    return fail


def told(line, exception):
    """An actor's function that is told to end, and does so."""

    def end():
        line.runner.current.interrupt(exception, math.inf)
        line.runner.current.check_cancelled()

    return end


# What an actor returns


def test_a_return_value_is_the_result(line):
    """As JSON."""
    record = run_one(line, lambda x: {"twice": [2 * x]}, 4)
    assert (record.status, record.result) == (Status.SUCCEEDED, b'{"twice":[8]}')
    assert (record.attempt, record.error) == (1, None)


def test_returning_nothing_is_a_result(line):
    """It is null."""
    record = run_one(line, lambda: None)
    assert (record.status, record.result) == (Status.SUCCEEDED, b"null")


@pytest.mark.parametrize("value", [0, "", [], False, {}])
def test_a_false_value_is_a_result(line, value):
    """It is not nothing."""
    actor = declare(line.broker, lambda: value, actor_name="actor")
    job = actor.send()
    line.run(job)
    assert job.get_result() == value


@pytest.mark.parametrize(
    "value",
    [object(), {1j}, float("nan"), {"a": [float("inf")]}, "\ud800", threading.Lock()],
    ids=range(6),
)
def test_a_result_that_is_not_json_fails_the_job_once(line, value):
    """Running the actor again would not change it; nothing is stored in its place."""
    record = run_one(line, lambda: value)
    assert (record.status, record.result) == (Status.FAILED, None)
    assert (record.error.type, record.error.code) == ("BadResult", "bad_result")
    assert "the result of actor 'actor' " in record.error.message


def test_a_result_nested_too_deep_fails_the_job(line):
    """So that nothing that reads it can be brought down by it."""
    value = []
    for _ in range(200):
        value = [value]
    assert run_one(line, lambda: value).error.code == "bad_result"


def test_a_result_that_is_too_large_fails_the_job_once(line):
    """The text says which limit, and what to do."""
    record = run_one(line, lambda: "x" * 1_000)
    assert (record.status, record.error.type) == (Status.FAILED, "PayloadTooLarge")
    assert record.error.code == "bad_result"
    assert "1,002 bytes, the limit TASKQ_MAX_RESULT_SIZE is 1,000" in record.error.message


def test_a_result_at_the_limit_is_stored(line):
    """The limit itself is allowed."""
    assert run_one(line, lambda: "x" * 998).status is Status.SUCCEEDED


def test_an_async_actor_is_awaited(line):
    """Its result is what its coroutine returns."""

    async def double(x):
        await asyncio.sleep(0)
        return 2 * x

    assert run_one(line, double, 4).result == b"8"


def test_a_context_variable_that_a_job_sets_is_not_seen_by_the_next(line):
    """Jobs of one thread share nothing."""
    variable = ContextVar("variable", default="unset")

    def remember():
        return variable.set("set") and None

    run_one(line, remember)
    record = run_one(line, lambda: variable.get(), actor_name="next")
    assert record.result == b'"unset"'
    assert variable.get() == "unset"


def test_an_async_actor_can_fail(line):
    """Like any other."""

    async def fail():
        await asyncio.sleep(0)
        raise ValueError("no")

    record = run_one(line, fail, **once())
    assert (record.status, record.error.message) == (Status.FAILED, "no")


# What an actor raises


@pytest.mark.needs("Retries")
def test_an_exception_is_followed_by_another_run(line, clock):
    """The record shows why it waits."""
    record = run_one(line, raising(ValueError("no")), min_backoff=1_000, max_backoff=1_000)
    assert record.status is Status.SCHEDULED
    assert 500 <= record.scheduled_for - clock.now() <= 1_000
    assert (record.error.type, record.error.message) == ("ValueError", "no")
    assert (record.error.code, record.attempt) == ("exception", 1)


def test_the_last_exception_fails_the_job(line):
    """It is kept with its last error, and its message is kept whole."""
    actor = declare(line.broker, raising(KeyError("k")), actor_name="actor", **once())
    job = actor.send()
    sent = job.record.message
    record = line.run(job)
    assert (record.status, record.error.type) == (Status.FAILED, "KeyError")
    assert record.message == sent


@pytest.mark.parametrize("exception", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_an_exception_that_is_no_exception_is_an_error_of_the_job(line, exception):
    """``sys.exit()`` in an actor ends the job and not the worker."""
    record = run_one(line, raising(exception), **once())
    assert (record.status, record.error.type) == (Status.FAILED, type(exception).__name__)


@pytest.mark.needs("Retries")
def test_leaving_by_sys_exit_is_retried(line):
    """As any exception is."""
    assert run_one(line, lambda: sys.exit(0)).status is Status.SCHEDULED


def test_shutdown_gives_the_job_back_uncharged(line, watcher):
    """It runs again elsewhere, and has as many runs left as before."""
    actor = declare(line.broker, told(line, Shutdown), actor_name="actor", **once())
    job = actor.send()
    assert type(line.run_next()) is Released
    record = job.refresh().record
    assert (record.status, record.attempt, record.error) == (Status.QUEUED, 0, None)
    assert isinstance(watcher.given["after_process_message"][1]["exception"], Shutdown)


@pytest.mark.parametrize("exception", [Shutdown, LeaseLost])
def test_what_only_a_worker_may_say_is_a_failure_of_an_actor_that_says_it(line, exception):
    """It would run again at once, uncharged, and so for ever."""
    record = run_one(line, raising(exception("no")), **once())
    assert (record.status, record.error.type) == (Status.FAILED, exception.__name__)


@pytest.mark.needs("Retries")
def test_an_actor_that_says_what_only_a_worker_may_say_is_retried(line):
    """As after any failure; that it was told something else makes no difference."""

    def fail():
        line.runner.current.interrupt(LeaseLost, math.inf)
        raise Shutdown

    record = run_one(line, fail)
    assert (record.status, record.attempt) == (Status.SCHEDULED, 1)


def test_an_actor_can_end_its_job_by_skipping_it(line, watcher):
    """It counts as succeeded, without a result."""
    record = run_one(line, raising(SkipMessage("nothing to do")))
    assert (record.status, record.result) == (Status.SUCCEEDED, b"null")
    assert "after_skip_message" in watcher.seen
    assert "after_process_message" not in watcher.seen


def test_a_hook_can_skip_a_job(line, watcher):
    """The actor does not run."""

    class Skipping(Middleware):
        def before_process_message(self, broker, message):
            raise SkipMessage

    line.broker.add_middleware(Skipping())
    ran = []
    record = run_one(line, lambda: ran.append(1))
    assert (record.status, record.result, ran) == (Status.SUCCEEDED, b"null", [])
    assert watcher.seen[-2:] == ["after_skip_message", "leave"]


def test_a_hook_can_fail_a_job_by_skipping_it(line):
    """Dramatiq's way to refuse a message for good."""

    class Refusing(Middleware):
        def before_process_message(self, broker, message):
            message.fail()
            raise SkipMessage("too old")

    line.broker.add_middleware(Refusing())
    record = run_one(line, lambda: None)
    assert (record.status, record.error.message) == (Status.FAILED, "too old")


@pytest.mark.needs("Retries")
def test_an_error_of_a_size_in_the_actors_own_call_is_not_its_results(line):
    """An actor that sends too large a message failed by itself, and runs again."""
    other = declare(line.broker, lambda x: None, actor_name="other")
    record = run_one(line, lambda: other.send("x" * 5_000))
    assert (record.status, record.error.type) == (Status.SCHEDULED, "PayloadTooLarge")
    assert record.error.code == "exception"


@pytest.mark.needs("Retries")
def test_an_error_of_arguments_in_the_actors_own_call_is_not_its_own(line):
    """The same for arguments that do not fit another actor."""
    other = declare(line.broker, lambda x: None, actor_name="other")
    record = run_one(line, lambda: other.send())
    assert (record.status, record.error.code) == (Status.SCHEDULED, "exception")


# The error that is stored


def test_the_traceback_shows_the_actors_frames_alone(line):
    """What is around them does not help its author."""
    traceback = run_one(line, raising(ValueError("no"))).error.traceback
    assert traceback.startswith("Traceback (most recent call last):\n")
    assert traceback.endswith("ValueError: no\n")
    assert traceback.count("  File ") == 1
    assert "raise exception" in traceback


def test_the_traceback_shows_the_cause(line):
    """As Python would print it."""

    def fail():
        try:
            raise KeyError("cause")
        except KeyError as error:
            raise ValueError("effect") from error

    traceback = run_one(line, fail).error.traceback
    assert "KeyError: 'cause'" in traceback
    assert "direct cause" in traceback


def test_the_traceback_has_no_values_of_variables(line):
    """They may be secrets."""

    def fail(password):
        copy = password * 2
        raise ValueError(len(copy))

    record = run_one(line, fail, CANARY)
    assert CANARY not in record.error.traceback
    assert CANARY not in record.error.message


def test_a_deep_traceback_is_cut(line):
    """The innermost frames are kept."""

    def fail(n):
        if n == 0:
            raise ValueError("deep")
        fail(n - 1)

    def other(n):
        other2(n)

    def other2(n):
        fail(n) if n % 2 else other(n - 1)

    error = run_one(line, lambda: other(401)).error
    assert error.traceback.count("  File ") <= 60
    assert error.traceback.endswith("ValueError: deep\n")


def test_a_long_text_is_cut(line):
    """A record is not a place for a dump."""
    error = run_one(line, raising(ValueError("x" * 1_000_000))).error
    assert len(error.message) == len(error.traceback) == 32_768


def test_a_text_that_cannot_be_stored_is_escaped(line):
    """A file's name that is not UTF-8 would keep the outcome from being stored for ever."""
    error = run_one(line, raising(ValueError("no file \udcff"))).error
    assert error.message == "no file \\udcff"
    error.traceback.encode()


def test_an_exception_without_a_readable_text_is_an_error_like_any_other(line):
    """Nothing that it does gets out."""

    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("mute")

    error = run_one(line, raising(Mute())).error
    assert (error.type, error.message) == ("Mute", "(its text could not be read)")


# Bad input


@pytest.mark.needs("Retries")
def test_a_type_error_of_the_actors_own_is_retried(line):
    """Its arguments do fit."""
    record = run_one(line, lambda a: a + 1, "text")
    assert (record.status, record.error.type) == (Status.SCHEDULED, "TypeError")
    assert record.error.code == "exception"


@pytest.mark.needs("Retries")
def test_a_wrong_call_within_the_actor_is_retried(line):
    """It looks like a wrong call of the actor, but is not."""

    def inner(a):
        pass

    record = run_one(line, lambda: inner())
    assert (record.status, record.error.type) == (Status.SCHEDULED, "TypeError")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04\x95\x00",
        b"{",
        b"null",
        b"[]",
        b'{"queue_name":"default"}',
        b"[" * 500,
        b"x" * 3_000,
        b"\xff\xfe",
    ],
)
def test_bytes_that_are_no_message_fail_the_job(line, data, caplog):
    """They are kept, and the worker goes on."""
    job_id = line.put(Message("default", "actor", (), {}, {}), message=data)
    line.run_next()
    record = line.record(job_id)
    assert (record.status, record.error.code) == (Status.FAILED, "malformed")
    assert record.message == data
    [text] = messages(caplog, logging.ERROR)
    assert f"job {job_id} failed: its stored message is damaged" in text


def test_the_message_of_another_job_fails_the_job(line):
    """A store that mixed them up must not run one of them twice."""
    ran = []
    declare(line.broker, lambda: ran.append(1), actor_name="actor")
    other = Message("default", "actor", (), {}, {})
    job_id = line.put(other, id=generate_id())
    line.run_next()
    assert line.record(job_id).error.code == "malformed"
    assert ran == []


def test_a_job_of_an_unknown_actor_is_put_off(line, clock, caplog):
    """A worker that knows it may be on its way; no run is charged."""
    job_id = line.put(Message("default", "unheard", (), {}, {}))
    line.run_next()
    record = line.record(job_id)
    assert (record.status, record.status_reason) == (Status.SCHEDULED, "unknown_actor")
    assert (record.attempt, record.scheduled_for - clock.now()) == (0, 1_000)
    [text] = messages(caplog, logging.WARNING)
    assert f"job {job_id} waits 1000 ms for another worker: no actor is named 'unheard'" in text


def test_a_job_of_an_unknown_actor_waits_longer_each_time(line, clock):
    """Up to a minute."""
    job_id = line.put(Message("default", "unheard", (), {}, {}))
    delays = []
    for _ in range(9):
        line.run_next()
        delays.append(line.record(job_id).scheduled_for - clock.now())
        clock.advance(delays[-1])
    assert delays == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]


def test_a_job_whose_actor_stays_unknown_fails_after_a_day(line, clock):
    """It is kept, and can be looked at."""
    job_id = line.put(Message("default", "unheard", (), {}, {}))
    line.run_next()
    clock.advance(DAY - 1)
    line.run_next()
    assert line.record(job_id).status is Status.SCHEDULED
    clock.advance(60_000)
    line.run_next()
    record = line.record(job_id)
    assert (record.status, record.error.code) == (Status.FAILED, "unknown_actor")
    assert record.error.type == "ActorNotFound"


def test_a_job_runs_once_its_actor_is_known(line, clock):
    """The deploy is complete."""
    job_id = line.put(Message("default", "late", (), {}, {}))
    line.run_next()
    declare(line.broker, lambda: "here", actor_name="late")
    clock.advance(1_000)
    line.run_next()
    record = line.record(job_id)
    assert (record.status, record.attempt, record.result) == (Status.SUCCEEDED, 1, b'"here"')


# Hooks and contexts


def test_hooks_run_inside_the_contexts_and_around_the_actor(line, watcher):
    """In Dramatiq's order."""
    watcher.seen.clear()
    actor = declare(line.broker, lambda: watcher.note("actor"), actor_name="actor")
    watcher.seen.clear()
    line.put(actor.message())
    line.run_next()
    assert watcher.seen == [
        "enter",
        "before_process_message",
        "actor",
        "after_process_message",
        "leave",
    ]


def test_the_first_middlewares_context_is_the_outermost(clock):
    """And it closes last."""
    seen = []
    watchers = [Watcher("one."), Watcher("two.")]
    for watcher in watchers:
        watcher.seen = seen
    run_one(Line(make_broker(clock, *watchers)), lambda: None)
    around = [name for name in seen if name.endswith(("enter", "leave"))]
    assert around == ["one.enter", "two.enter", "two.leave", "one.leave"]


def test_after_hooks_hear_of_the_result(line, watcher):
    """As the actor returned it."""
    value = [1]
    run_one(line, lambda: value)
    (message,), outcome = watcher.given["after_process_message"]
    assert outcome["result"] is value
    assert outcome["exception"] is None
    assert message.failed is False


def test_after_hooks_hear_of_the_exception(line, watcher):
    """As the actor raised it, after retries were decided on."""
    error = ValueError("no")
    run_one(line, raising(error), **once())
    (message,), outcome = watcher.given["after_process_message"]
    assert outcome["exception"] is error
    assert outcome["result"] is None


def test_contexts_see_how_the_run_ended(line, watcher):
    """One that holds a database transaction must know whether to commit."""
    error = ValueError("no")
    run_one(line, raising(error))
    assert watcher.given["leave"][0] == (error,)


def test_contexts_see_that_a_result_could_not_be_stored(line, watcher):
    """The run has failed, so what it did is to be undone."""
    run_one(line, lambda: object())
    assert type(watcher.given["leave"][0][0]).__name__ == "BadResult"


def test_a_middleware_need_not_have_a_context_for_each_job(clock):
    """None costs less than one that does nothing."""
    seen = []

    @contextmanager
    def around(message):
        seen.append(f"enter {message.actor_name}")
        yield
        seen.append(f"leave {message.actor_name}")

    class Choosy(Middleware):
        def around_process_message(self, broker, message):
            return around(message) if message.actor_name == "dear" else None

    line = Line(make_broker(clock, Choosy()))
    for name in ("plain", "dear"):
        record = run_one(line, lambda: seen.append("run"), actor_name=name)
        assert record.status is Status.SUCCEEDED
    assert seen == ["run", "enter dear", "run", "leave dear"]


@pytest.mark.needs("Retries")
def test_a_context_that_swallows_the_exception_does_not_turn_it_into_success(line):
    """What it may undo is its own."""

    class Swallowing(Middleware):
        @contextmanager
        def around_process_message(self, broker, message):
            try:
                yield
            except ValueError:
                pass

    line.broker.add_middleware(Swallowing())
    assert run_one(line, raising(ValueError("no"))).status is Status.SCHEDULED


def failing_context(when):
    class Broken(Middleware):
        @contextmanager
        def around_process_message(self, broker, message):
            if when == "in":
                raise OSError("way in")
            yield
            raise OSError("way out")

    return Broken()


@pytest.mark.needs("Retries")
def test_a_context_that_cannot_be_entered_is_an_error_of_the_run(line, watcher):
    """The actor does not run; those that were entered are left; it is tried again."""
    line.broker.add_middleware(failing_context("in"))
    ran = []
    record = run_one(line, lambda: ran.append(1))
    assert (record.status, record.error.message, ran) == (Status.SCHEDULED, "way in", [])
    assert isinstance(watcher.given["leave"][0][0], OSError)
    assert isinstance(watcher.given["after_process_message"][1]["exception"], OSError)


@pytest.mark.needs("Retries")
def test_a_context_that_cannot_be_left_is_an_error_of_the_run(line, watcher):
    """Its transaction was not committed: the actor has not done what it said."""
    line.broker.add_middleware(failing_context("out"))
    record = run_one(line, lambda: "fine")
    assert (record.status, record.error.message) == (Status.SCHEDULED, "way out")
    assert record.result is None


def test_a_hook_that_fails_does_not_fail_the_job(line, caplog):
    """It is logged."""

    class Broken(Middleware):
        def before_process_message(self, broker, message):
            raise RuntimeError("hook")

    line.broker.add_middleware(Broken())
    assert run_one(line, lambda: 1).status is Status.SUCCEEDED
    assert "RuntimeError: hook" in messages(caplog)[0]


#: What is no Exception, and is raised all the same.
RUDE = [ValueError("hook"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()]


class Rude(Middleware):
    """Raises when a run has ended."""

    def __init__(self, error):
        self._error = error

    def after_process_message(self, broker, message, *, result=None, exception=None):
        raise self._error

    def after_skip_message(self, broker, message):
        raise self._error


@pytest.mark.parametrize("error", RUDE, ids=repr)
@pytest.mark.parametrize(
    ("fn", "status"),
    [
        (lambda: 1, Status.SUCCEEDED),
        (raising(SkipMessage()), Status.SUCCEEDED),
        (raising(ValueError("no")), Status.SCHEDULED),
    ],
)
@pytest.mark.needs("Retries")
def test_whatever_an_after_hook_raises_the_outcome_stands(clock, caplog, fn, status, error):
    """And the other hooks, such as the one that decides about retries, hear of it."""
    line = Line(make_broker(clock, Rude(error)))
    assert run_one(line, fn).status is status
    assert any("Rude" in text for text in messages(caplog, logging.ERROR))


@pytest.mark.parametrize("error", RUDE[1:], ids=repr)
def test_where_tests_run_jobs_a_hook_can_end_the_test(clock, error):
    """As by ``pytest.fail()`` in a receiver of a signal."""
    broker = make_broker(clock, Rude(error))
    line = Line(broker)
    line.runner = Runner(broker, catches=(Exception,))
    with pytest.raises(type(error)):
        run_one(line, lambda: 1)


@pytest.mark.parametrize("error", RUDE, ids=repr)
@pytest.mark.needs("Retries")
def test_an_exception_that_cannot_say_what_it_is_is_recorded(line, error):
    """The job ends as it does with any other."""

    class Silent(Exception):
        def __str__(self):
            raise error

    record = run_one(line, raising(Silent()), **once())
    assert (record.status, record.error.type) == (Status.FAILED, "Silent")
    assert (record.error.code, record.error.message) == (
        "exception",
        "(its text could not be read)",
    )


@pytest.mark.parametrize("error", RUDE, ids=repr)
@pytest.mark.parametrize(
    ("fn", "status"),
    [(lambda: 1, Status.SUCCEEDED), (raising(ValueError("no")), Status.SCHEDULED)],
)
@pytest.mark.needs("Retries")
def test_whatever_the_log_raises_the_outcome_stands(line, fn, status, error):
    """As by a filter that needs a request."""

    def fail(record):
        raise error

    logger = logging.getLogger("flask_taskq.jobs")
    logger.addFilter(fail)
    try:
        record = run_one(line, fn)
    finally:
        logger.removeFilter(fail)
    assert record.status is status


# Times and log


def test_the_record_says_when_the_run_began_and_ended(line, clock):
    """By the wall clock."""
    record = run_one(line, lambda: clock.advance(250))
    assert record.finished_at - record.started_at == 250


def test_a_job_is_one_line_at_info(line, clock, caplog):
    """With its id, actor, run and duration."""
    caplog.set_level(logging.INFO)
    record = run_one(line, lambda: clock.advance(250))
    assert messages(caplog) == [
        f"job {record.id} succeeded: actor=actor attempt=1 duration=250.0ms"
    ]


@pytest.mark.parametrize(
    ("fn", "level", "text"),
    [
        (lambda: None, logging.INFO, "succeeded"),
        (raising(SkipMessage()), logging.INFO, "succeeded"),
        (raising(ValueError("no")), logging.WARNING, "failed, runs again in 0 ms"),
        (raising(Snooze(1)), logging.INFO, "snoozed"),
        (lambda: object(), logging.ERROR, "failed"),
    ],
)
@pytest.mark.needs("Retries")
def test_each_outcome_has_its_line(line, caplog, fn, level, text):
    """Its level says whether somebody should look."""
    caplog.set_level(logging.INFO)
    actor = declare(line.broker, fn, actor_name="actor", min_backoff=0)
    job = actor.send()
    line.run_next()
    [record] = caplog.records
    assert record.levelno == level
    assert record.getMessage().startswith(f"job {job.id} {text}: actor=actor attempt=1 ")


def test_a_failure_is_logged_with_its_traceback(line, caplog):
    """Where the developer looks first; the frames are the actor's own."""
    run_one(line, raising(ValueError("no")))
    [text] = messages(caplog)
    assert "ValueError: no" in text
    assert text.count("  File ") == 1


def test_no_line_has_arguments_or_results(line, caplog):
    """At any level."""
    caplog.set_level(logging.DEBUG)
    run_one(line, lambda x: x, CANARY)
    line.put(Message("default", "actor", (CANARY, CANARY), {"k": CANARY}, {}))
    line.run_next()
    line.put(Message("default", "unheard", (CANARY,), {"k": CANARY}, {}))
    line.run_next()
    assert len(caplog.records) == 3
    assert CANARY not in caplog.text


class Gone(Exception):
    """What an actor says that it throws."""


class StillGone(Gone):
    pass


@pytest.mark.parametrize("error", [Gone("invoice 7"), StillGone()])
@pytest.mark.parametrize("throws", [Gone, (KeyError, Gone)])
@pytest.mark.needs("Retries")
def test_an_expected_failure_is_logged_as_news_without_a_traceback(line, caplog, throws, error):
    """The actor says that it throws it: nobody has to look."""
    caplog.set_level(logging.INFO)
    record = run_one(line, raising(error), throws=throws)
    assert record.status is Status.FAILED
    [logged] = caplog.records
    assert (logged.levelno, logged.exc_info) == (logging.INFO, None)
    name = type(error).__name__
    assert logged.getMessage().startswith(f"job {record.id} failed with the expected {name}: ")


@pytest.mark.needs("Retries")
def test_only_what_the_actor_throws_is_expected(line, caplog):
    """Neither other errors, nor a result that cannot be stored."""
    caplog.set_level(logging.INFO)
    for fn, throws in [(raising(KeyError()), Gone), (lambda: object(), Exception)]:
        run_one(line, fn, actor_name=repr(fn)[10:16], throws=throws, **once())
    assert [one.levelno for one in caplog.records] == [logging.ERROR] * 2
    assert all(one.exc_info for one in caplog.records)


@pytest.mark.needs("Retries")
def test_a_retry_that_was_asked_for_is_logged_as_news_without_a_traceback(line, caplog):
    """It is no failure, until no run follows any more."""
    caplog.set_level(logging.INFO)
    declare(line.broker, raising(RetryError()), min_backoff=0, max_retries=1).send()
    line.run_next()
    line.run_next()
    first, last = caplog.records
    assert (first.levelno, first.exc_info) == (logging.INFO, None)
    assert last.levelno == logging.ERROR


@pytest.mark.needs("Retries")
def test_the_settlement_keeps_no_frames_alive(clock, caplog):
    """An exception refers to the actor's variables, which may be large."""
    line = Line(make_broker(clock))
    # The log is kept for the test's report, with its exceptions.
    caplog.set_level(logging.CRITICAL, logger="flask_taskq.jobs")

    class Large:
        pass

    kept = []

    def fail():
        large = Large()
        kept.append(weakref.ref(large))
        raise ValueError(large)

    declare(line.broker, fail, actor_name="actor").send()
    settlement = line.run_next()
    gc.collect()
    assert isinstance(settlement, Retried)
    assert kept[0]() is None


def test_every_settlement_is_of_its_delivery(line):
    """The token in it is what lets it through."""
    declare(line.broker, lambda: 1, actor_name="good").send()
    declare(line.broker, raising(ValueError()), actor_name="bad", **once()).send()
    kinds = []
    for _ in range(2):
        settlement = line.run_next()
        assert settlement.delivery.worker == line.worker
        kinds.append(type(settlement))
    assert kinds == [Succeeded, Failed]


def test_a_message_can_be_read_back_from_the_record(line):
    """The dead letter can be sent again."""
    actor = declare(line.broker, raising(ValueError()), actor_name="actor", **once())
    message = actor.message()
    job = line.broker.enqueue(message)
    assert line.run(job).message == encode_message(message, 10_000)


@pytest.mark.needs("Retries")
def test_a_traceback_that_cannot_be_formatted_does_not_change_the_outcome(line, monkeypatch):
    """Python parses source for it, which can fail; the record still says where it was."""

    def fail(*args):
        raise SystemError("AST constructor recursion depth mismatch")

    monkeypatch.setattr(traceback, "format_exception", fail)
    record = run_one(line, raising(ValueError("oh")))
    assert (record.status, record.error.message) == (Status.SCHEDULED, "oh")
    assert record.error.traceback.endswith("in fail\nValueError\n")


# Giving up


@dataclasses.dataclass
class Counted:
    """RunProgress how often one is made."""

    it: int

    def __post_init__(self):
        made.append(self.it)


made: list[int] = []


@pytest.mark.needs("TimeLimit")
def test_a_run_is_given_up_with_what_it_began_with(line):
    """Its arguments are not read again: another thread would run the code of their class, and
    they may not fit any more."""
    started, end = threading.Event(), threading.Event()

    def wait(it: Counted):
        started.set()
        end.wait()

    job = declare(line.broker, wait, **once()).send(Counted(1))
    line.engine.workers.register("w1")
    [delivery] = line.engine.consumer(["default"], "w1").fetch(1, 0)
    thread = threading.Thread(target=line.runner.run, args=(delivery,))
    thread.start()
    assert started.wait(10)
    made.clear()
    try:
        settlement = line.runner.abandon(line.runner.current)
    finally:
        end.set()
        thread.join()
    assert isinstance(settlement, Failed)
    assert (settlement.delivery.id, settlement.error.code) == (job.id, "time_limit")
    assert made == []

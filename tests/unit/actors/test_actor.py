"""Declared functions, what they take, and what they send."""

import asyncio
from datetime import timedelta

import pytest

from flask_taskq import Message
from flask_taskq.actors.actor import Actor
from flask_taskq.errors import BadArguments
from flask_taskq.errors import PayloadTooLarge
from flask_taskq.errors import TaskQError
from flask_taskq.jobs.encoding import decode_message
from tests.support.apps import declare
from tests.support.apps import make_broker


@pytest.fixture
def broker(clock):
    return make_broker(clock, max_message_size=2_000)


@pytest.fixture
def add(broker):
    @declare(broker)
    def add(a, b=2, *, c=0):
        """Add numbers."""
        return a + b + c

    return add


def actor(fn=lambda: None, **fields):
    fields.setdefault("actor_name", "add")
    return Actor(fn, resolver=lambda: None, **fields)


def test_calling_an_actor_runs_the_function(add):
    """Here and now: no queue, no app, no encoding."""
    assert add(1, b=4, c=5) == 10


def test_calling_an_actor_passes_on_what_json_could_not():
    """A plain call is a plain call."""
    thing = object()
    assert actor(lambda x: x)(thing) is thing


def test_calling_an_async_actor_gives_its_coroutine():
    """It is awaited as the function would be."""

    async def double(x):
        return 2 * x

    assert asyncio.run(actor(double)(4)) == 8


def test_an_async_function_is_recognized():
    """Its runner needs an event loop."""

    async def double(x):
        return 2 * x

    assert actor(double).is_async
    assert not actor(lambda x: x).is_async


def test_a_message_carries_the_call(add):
    """Making one sends nothing."""
    message = add.message(1, c=3)
    assert isinstance(message, Message)
    assert (message.queue_name, message.actor_name) == ("default", "add")
    assert (message.args, message.kwargs, message.options) == ((1,), {"c": 3}, {})


def test_a_message_can_have_options_of_its_own(add):
    """They override the actor's."""
    message = add.message_with_options(args=[1], kwargs={"b": 1}, max_retries=0)
    assert (message.args, message.kwargs) == ((1,), {"b": 1})
    assert message.options == {"max_retries": 0}


def test_a_duration_among_the_options_may_be_a_timedelta(add):
    """It travels as milliseconds."""
    message = add.message_with_options(args=[1], min_backoff=timedelta(seconds=2))
    assert message.options == {"min_backoff": 2_000}


def test_the_callers_arguments_are_not_kept(add):
    """Changing them afterwards does not change what was made."""
    args, kwargs = [1], {"b": 1}
    message = add.message_with_options(args=args, kwargs=kwargs)
    args.append(2)
    kwargs["c"] = 3
    assert (message.args, message.kwargs) == ((1,), {"b": 1})


@pytest.mark.parametrize(
    ("args", "kwargs", "named"),
    [
        ((), {}, "'a'"),
        ((1, 2, 3), {}, "3 arguments by position are too many"),
        ((1,), {"d": 4}, "no parameter 'd'"),
        ((), {"d": 4}, "no parameter 'd'"),
        ((1,), {"a": 1}, "'a' is given twice"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_when_sent(add, args, kwargs, named):
    """The error names the actor and the parameter, and is also a TypeError."""
    with pytest.raises(BadArguments, match=named) as caught:
        add.send(*args, **kwargs)
    assert "actor 'add'" in str(caught.value)
    assert isinstance(caught.value, TypeError)


def test_a_message_may_leave_arguments_open_until_it_is_sent(add, broker):
    """What it lacks may be added to it before that."""
    message = add.message_with_options(kwargs={"b": 4})
    with pytest.raises(BadArguments, match="without 'a'"):
        broker.enqueue(message)
    assert broker.enqueue(message.copy(args=(1,))).message.args == (1,)


@pytest.mark.parametrize("args", [1, "ab", b"ab", {1}, None])
def test_a_container_of_arguments_that_is_none_is_refused(add, args):
    """The comma of (1,) is easily forgotten."""
    with pytest.raises(BadArguments, match=r"args of a message for actor 'add' .* \(1,\)"):
        add.send_with_options(args=args)


@pytest.mark.parametrize("kwargs", [[1], {1: 2}, "ab"])
def test_keywords_that_are_no_names_are_refused(add, kwargs):
    """They cannot be passed to a function."""
    with pytest.raises(BadArguments, match="kwargs of a message for actor 'add'"):
        add.send_with_options(args=(1,), kwargs=kwargs)


@pytest.mark.parametrize(
    "value", [object(), {1j}, float("nan"), [float("inf")], "\ud800"], ids=range(5)
)
def test_an_argument_that_is_not_json_is_refused_when_sent(add, value):
    """The error names the parameter."""
    with pytest.raises(BadArguments, match="argument 'b' of actor 'add'"):
        add.send(1, value)


def test_a_keyword_that_is_not_json_is_refused_when_sent(add):
    """The error names it, too."""
    with pytest.raises(BadArguments, match="argument 'c' of actor 'add'"):
        add.send(1, c=object())


def test_a_message_over_the_limit_is_refused_when_sent(add, broker):
    """Nothing is stored, and the error says which actor and which limit."""
    with pytest.raises(PayloadTooLarge, match="actor 'add'.*TASKQ_MAX_MESSAGE_SIZE") as caught:
        add.send("x" * 2_000)
    assert isinstance(caught.value, ValueError)
    assert broker.engine.queues.depths() == {}


def test_arguments_are_encoded_when_they_are_sent(add, broker):
    """Changing a list afterwards does not change the job."""
    numbers = [1]
    job = add.send(numbers)
    numbers.append(2)
    message = decode_message(job.refresh().record.message, 10_000)
    assert message.args == ([1],)


def test_a_job_has_the_actors_queue_and_priority(broker):
    """They hold in the engine."""
    urgent = declare(broker, lambda: None, actor_name="u", queue_name="fast", priority=-9)
    record = urgent.send().refresh().record
    assert (record.queue, record.priority) == ("fast", -9)


@pytest.mark.parametrize("eta", [0, 1_767_225_600, -1])
def test_an_eta_in_seconds_is_refused(add, eta):
    """Taken for milliseconds it would lie in 1970, and the job would run at once."""
    with pytest.raises(ValueError, match="actor 'add' is .*1970-01-.*multiply seconds by 1000"):
        add.send_with_options(args=(1,), eta=eta)


@pytest.mark.parametrize("delay", [60_000, timedelta(minutes=1)])
def test_a_delay_is_milliseconds_or_a_timedelta(add, clock, delay):
    """It counts from the call."""
    record = add.send_with_options(args=(1,), delay=delay).refresh().record
    assert record.scheduled_for == clock.now() + 60_000


def test_a_delay_of_zero_is_no_delay(add):
    """The job may run at once."""
    job = add.send_with_options(args=(1,), delay=0)
    assert job.refresh().status == "queued"


def test_a_negative_delay_is_refused(add):
    """It is a mistake of the caller's arithmetic."""
    with pytest.raises(ValueError, match="actor 'add' is -1 ms"):
        add.send_with_options(args=(1,), delay=-1)


def test_the_broker_is_resolved_when_a_message_is_sent(broker):
    """An actor may be declared long before there is one."""
    brokers = []
    late = Actor(lambda: None, resolver=lambda: brokers[0], actor_name="late")
    brokers.append(broker)
    assert late.send().refresh().record.actor == "late"


@pytest.mark.parametrize("name", ["", "a b", "a\n", "1queue", "q" * 65, "q;drop", "ü"])
def test_a_queue_name_that_is_not_valid_is_refused(name):
    """It ends up in keys, logs and URLs."""
    with pytest.raises(ValueError, match="queue name"):
        actor(queue_name=name)


@pytest.mark.parametrize("name", ["", "a b", "a\n", "a/b", "a" * 201, "<lambda>"])
def test_an_actor_name_that_is_not_valid_is_refused(name):
    """It ends up in keys, logs and URLs."""
    with pytest.raises(ValueError, match="actor name"):
        actor(actor_name=name)


@pytest.mark.parametrize("priority", [-10, 10, "high", None])
def test_a_priority_out_of_range_is_refused(priority):
    """The text says which way round it goes."""
    with pytest.raises(ValueError, match="-9, first, to 9, last"):
        actor(priority=priority)


@pytest.mark.parametrize("priority", [-9, 0, 9])
def test_a_priority_in_range_is_taken(priority):
    """Both ends are in it."""
    assert actor(priority=priority).priority == priority


def test_an_actor_keeps_its_functions_documentation(add):
    """For help() and for Sphinx."""
    assert add.__doc__ == "Add numbers."


def test_an_actor_looks_as_in_dramatiq(add):
    """In logs and at the prompt."""
    assert str(add) == "Actor(add)"
    assert repr(add) == f"Actor({add.fn!r}, queue_name='default', actor_name='add')"


def test_every_error_at_send_is_one_of_the_package(add):
    """One except clause catches them."""
    for send in (lambda: add.send(), lambda: add.send(object()), lambda: add.send("x" * 9_999)):
        with pytest.raises(TaskQError):
            send()

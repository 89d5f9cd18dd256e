"""``actor.using(...)``: an actor with options for its messages."""

import pytest

from flask_taskq import Status
from tests.support.apps import declare
from tests.support.apps import Line


@pytest.fixture
def broker(new_broker, clock):
    return new_broker(clock)


@pytest.fixture
def line(broker):
    return Line(broker)


@pytest.fixture
def add(broker):
    return declare(
        broker, lambda a, b=0: a + b, actor_name="add", queue_name="slow", priority=3
    )


@pytest.mark.every_engine
def test_the_options_are_those_of_the_messages(add):
    """The arguments are given as in a plain send."""
    record = add.using(priority=-9, queue_name="fast", delay=500).send(1, b=2).refresh().record
    assert (record.queue, record.priority, record.status) == ("fast", -9, Status.SCHEDULED)
    assert record.scheduled_for == record.created_at + 500


def test_the_arguments_reach_the_actor(add, line):
    """By position and by name."""
    assert line.run(add.using(max_retries=0).send(1, b=2)).result == b"3"


def test_the_actor_itself_stays_as_it_is(add):
    """Another message has none of the options."""
    add.using(priority=-9)
    assert add.message(1).options == {}
    assert add.send(1).refresh().record.priority == 3


def test_a_delay_counts_from_each_send(add, clock):
    """What was made with it can be kept."""
    later = add.using(delay=500)
    first = later.send(1).refresh().record
    clock.advance(1_000)
    second = later.send(1).refresh().record
    assert second.scheduled_for == first.scheduled_for + 1_000


def test_options_add_up(add):
    """The last one with a name counts."""
    message = add.using(delay=500, max_retries=1).using(max_retries=2, priority=1).message(1)
    assert message.options == {"delay": 500, "max_retries": 2, "priority": 1}


def test_a_message_owns_its_options(add):
    """A hook that changes them changes no other message."""
    later = add.using(delay=500)
    later.message(1).options["delay"] = 1
    assert later.message(1).options == {"delay": 500}


@pytest.mark.parametrize(
    "options", [{"delay": -1}, {"priority": 10}, {"queue_name": "a b"}, {"delay": 1, "eta": 1}]
)
def test_a_bad_option_is_refused_before_anything_is_sent(add, options):
    """Where it is given, with the actor's name."""
    with pytest.raises(ValueError):
        add.using(**options)


def test_an_option_that_no_middleware_knows_is_refused_at_send(add, broker):
    """Nothing is stored."""
    with pytest.raises(ValueError, match="did you mean 'max_retries'"):
        add.using(max_retrys=1).send(1)
    assert broker.engine.queues.depths() == {}


def test_arguments_that_do_not_fit_are_refused(add):
    """As in a plain send."""
    with pytest.raises(TypeError):
        add.using(priority=1).send()

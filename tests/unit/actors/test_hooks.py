"""The hooks' base class, and the message as hooks see it."""

import copy
import inspect

import pytest

from flask_taskq import Message
from flask_taskq import Middleware
from flask_taskq.actors.hooks import HOOKS
from tests.support.apps import run_of

#: Dramatiq's hooks that exist here, with what they are given after the broker.
DRAMATIQ = {
    "before_ack": ["message"],
    "after_ack": ["message"],
    "before_nack": ["message"],
    "after_nack": ["message"],
    "before_declare_actor": ["actor"],
    "after_declare_actor": ["actor"],
    "before_declare_queue": ["queue_name"],
    "after_declare_queue": ["queue_name"],
    "before_enqueue": ["message", "delay"],
    "after_enqueue": ["message", "delay"],
    "before_process_message": ["message"],
    "after_process_message": ["message", "result", "exception"],
    "after_skip_message": ["message"],
    "after_process_boot": [],
    "before_worker_boot": ["worker"],
    "after_worker_boot": ["worker"],
    "before_worker_shutdown": ["worker"],
    "after_worker_shutdown": ["worker"],
    "after_consumer_thread_boot": ["thread"],
    "before_consumer_thread_shutdown": ["thread"],
    "after_worker_thread_boot": ["thread"],
    "before_worker_thread_shutdown": ["thread"],
}


@pytest.fixture
def message():
    return Message("default", "add", (1,), {"b": 2}, {"max_retries": 1})


@pytest.fixture
def run(message):
    return run_of(message, attempt=2, crashes=1)


@pytest.mark.parametrize("name", DRAMATIQ)
def test_a_hook_takes_what_it_takes_in_dramatiq(name):
    """A middleware written for it can be used here."""
    parameters = list(inspect.signature(getattr(Middleware, name)).parameters)
    assert parameters == ["self", "broker", *DRAMATIQ[name]]


def test_the_outcome_is_given_by_keyword():
    """As in Dramatiq: nobody can mix up result and exception."""
    parameters = inspect.signature(Middleware.after_process_message).parameters
    for name in ("result", "exception"):
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[name].default is None


def test_the_list_of_hooks_is_dramatiqs_and_some_more():
    """These are the added words."""
    added = {"around_process_message", "after_cancel", "after_process_death"}
    assert set(HOOKS) == {*DRAMATIQ, *added}


def test_a_middleware_adds_no_option_unless_it_says_so():
    """A typing error in an option is found by this."""
    assert list(Middleware().actor_options) == []


def test_a_run_reads_through_to_the_message(run, message):
    """Whatever it does not have itself."""
    assert (run.actor_name, run.args) == ("add", (1,))
    assert run.options is message.options


def test_a_run_does_not_have_what_the_message_does_not():
    """The error names the message's class, where the attribute was looked for."""
    run = run_of(Message("default", "add", (), {}, {}))
    with pytest.raises(AttributeError, match="Message"):
        run.colour  # noqa: B018


def test_a_run_knows_its_run(run, message):
    """These are of the delivery and not of the message."""
    assert (run.id, run.attempt, run.crashes) == (message.message_id, 2, 1)


def test_a_run_equals_its_message(run, message):
    """And any other run of an equal one."""
    assert run == message
    assert run == run_of(message)
    assert run != message.copy(actor_name="other")


def test_a_run_looks_like_its_message(run, message):
    """In a log it is the call."""
    assert str(run) == str(message) == "add(1, b=2)"
    assert repr(message) in repr(run)


def test_a_run_has_not_failed_at_first(run):
    """Nor does it run again."""
    assert run.failed is False
    assert run.retry_delay is None


def test_failing_takes_a_retry_back(run):
    """The last word counts, and failing is the stronger one."""
    run.retry(10)
    run.fail()
    assert run.failed is True
    assert run.retry_delay is None


def test_a_run_can_be_copied(run):
    """Tools that report errors do so."""
    twin = copy.copy(run)
    assert twin == run
    assert twin.attempt == 2

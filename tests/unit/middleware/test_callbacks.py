"""A callback that no actor has the name of is found before a job needs it."""

import logging

import pytest

from flask_taskq import TaskQ
from flask_taskq.errors import ConfigurationError
from flask_taskq.middleware.callbacks import check_callbacks
from tests.support.apps import make_app
from tests.support.apps import messages

pytestmark = pytest.mark.needs("Callbacks", "Retries")

OPTIONS = pytest.mark.parametrize("option", ["on_success", "on_failure", "on_retry_exhausted"])


@pytest.fixture
def taskq(clock):
    taskq = TaskQ(clock=clock)
    taskq.actor(lambda message, outcome: None, actor_name="tell_support")
    return taskq


@OPTIONS
def test_an_unknown_callback_is_refused_with_the_nearest_name(taskq, option):
    """And with the actor that has it."""
    taskq.actor(lambda: None, actor_name="work", **{option: "tell_suport"})
    app = make_app(taskq)
    with pytest.raises(
        ConfigurationError,
        match=f"{option} of actor 'work' is 'tell_suport'.*did you mean 'tell_support'.*ACTORS",
    ):
        check_callbacks(taskq.broker_for(app))


def test_all_unknown_callbacks_are_told_at_once(taskq):
    """Nobody need start a worker for each."""
    taskq.actor(lambda: None, actor_name="one", on_success="zzz", on_failure="yyy")
    taskq.actor(lambda: None, actor_name="two", on_success="xxx")
    app = make_app(taskq)
    with pytest.raises(ConfigurationError, match="'yyy'.*'zzz'.*'xxx'.*none is like it"):
        check_callbacks(taskq.broker_for(app))


@OPTIONS
def test_actors_can_be_declared_in_any_order(taskq, option):
    """The one that is called may stand below the one that calls it, or be shared."""
    taskq.actor(lambda: None, actor_name="work", **{option: "below"})
    app = make_app(taskq)
    taskq.actor(lambda message, outcome: None, actor_name="below")
    taskq.actor(lambda: None, actor_name="none", **{option: None})
    check_callbacks(taskq.broker_for(app))


def test_the_first_request_tells_of_an_unknown_callback_once(taskq, caplog):
    """The web server need not know it: it is the worker that calls it, and that refuses."""
    taskq.actor(lambda: None, actor_name="work", on_success="tell_suport")
    app = make_app(taskq)
    client = app.test_client()
    assert [client.get("/").status_code for _ in range(2)] == [404, 404]
    [text] = messages(caplog, logging.WARNING)
    assert "on_success of actor 'work' is 'tell_suport'" in text


def test_nothing_is_told_of_actors_that_only_the_worker_imports(taskq, caplog):
    """``TASKQ_ACTORS`` says that there are some."""
    taskq.actor(lambda: None, actor_name="work", on_success="elsewhere")
    app = make_app(taskq, actors="shop.jobs")
    assert app.test_client().get("/").status_code == 404
    assert messages(caplog, logging.WARNING) == []

"""The application context of a job."""

import pytest
from flask import current_app
from flask import g
from flask import has_app_context
from flask import has_request_context

from flask_taskq import Middleware
from flask_taskq import TaskQ
from flask_taskq.testing import drain
from tests.support.apps import make_app
from tests.support.apps import once


@pytest.fixture
def taskq(clock):
    return TaskQ(clock=clock)


@pytest.fixture
def app(taskq):
    return make_app(taskq)


def run(app, taskq, fn, **options):
    """Run a function as a job of this app; a handle on it."""
    actor = taskq.actor(fn, actor_name="actor", **options)
    with app.app_context():
        actor.send()
    [job] = drain(app, raise_failures=False)
    return job


def test_an_actor_has_a_current_app(app, taskq):
    """The one whose job it is."""
    assert run(app, taskq, lambda: current_app.name).get_result() == "app"


def test_an_async_actor_has_a_current_app(app, taskq):
    """Its coroutine runs in the same context."""

    async def name():
        return current_app.name

    assert run(app, taskq, name).get_result() == "app"


def test_an_actor_has_no_request(app, taskq):
    """The one that sent it is over."""
    actor = taskq.actor(has_request_context, actor_name="actor")
    with app.test_request_context():
        actor.send()
    assert drain(app)[0].get_result() is False


def test_hooks_run_in_the_context_of_the_job(app, taskq):
    """Those before and after the actor; those of the outcome have none."""
    seen = {}

    class Looking(Middleware):
        def before_process_message(self, broker, message):
            seen["before"] = current_app.name

        def after_process_message(self, broker, message, *, result=None, exception=None):
            seen["after"] = current_app.name

    taskq.broker_for(app).add_middleware(Looking())
    run(app, taskq, lambda: None)
    assert seen == {"before": "app", "after": "app"}


def test_every_job_has_a_fresh_g(app, taskq):
    """What one puts there, the next does not see."""

    @taskq.actor
    def count():
        g.count = g.get("count", 0) + 1
        return g.count

    with app.app_context():
        for _ in range(3):
            count.send()
    assert [job.get_result() for job in drain(app)] == [1, 1, 1]


@pytest.mark.parametrize("raised", [None, ValueError, SystemExit])
def test_the_context_is_torn_down_once_for_each_job(app, taskq, raised):
    """With what the actor raised, as for a request."""
    torn_down = []
    app.teardown_appcontext(lambda error: torn_down.append(type(error)))

    def work():
        assert torn_down == []
        if raised:
            raise raised

    actor = taskq.actor(work, actor_name="actor")
    with app.app_context():
        actor.send()
    torn_down.clear()
    drain(app)
    assert torn_down == [raised or type(None)]


def test_a_teardown_that_fails_is_an_error_of_the_job(app, taskq):
    """It may have been the commit."""

    @app.teardown_appcontext
    def fail(error):
        if g.get("armed"):
            raise OSError("commit")

    def work():
        g.armed = True

    job = run(app, taskq, work, **once())
    assert job.record.error.message == "commit"


def test_after_a_job_there_is_no_context(app, taskq):
    """The thread runs jobs of other apps next."""
    run(app, taskq, lambda: None)
    assert not has_app_context()


def test_the_context_is_around_all_other_contexts(app, taskq):
    """Middleware may use the app."""
    seen = []

    class Looking(Middleware):
        def around_process_message(self, broker, message):
            seen.append(current_app.name)
            return app.test_request_context()

    taskq.broker_for(app).add_middleware(Looking())
    assert run(app, taskq, has_request_context).get_result() is True
    assert seen == ["app"]


def test_a_plain_call_has_the_callers_context(app, taskq):
    """It is a plain call."""
    actor = taskq.actor(has_app_context, actor_name="actor")
    assert actor() is False
    with app.app_context():
        assert actor() is True

"""A job that runs without a worker runs apart from who sent it, as in a worker."""

from __future__ import annotations

from contextvars import ContextVar

import pytest
from flask import has_request_context
from flask import request

from flask_taskq import TaskQ
from flask_taskq.testing import drain
from tests.support.apps import make_app


@pytest.fixture
def taskq():
    return TaskQ()


@pytest.mark.parametrize("is_eager", [True, False], ids=["eager", "drained"])
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "plain"])
def test_a_job_does_not_see_the_request_that_sent_it(taskq, is_eager, is_async):
    """It would not be there in a worker either."""
    app = make_app(taskq, eager=is_eager)

    def look() -> bool:
        return has_request_context()

    async def look_async() -> bool:
        return has_request_context()

    actor = taskq.actor(look_async if is_async else look, actor_name="look")
    with app.test_request_context():
        job = actor.send()
        if not is_eager:
            drain(app)
        assert job.refresh().get_result() is False
        assert has_request_context()


@pytest.mark.needs("Retries")
def test_a_job_that_reads_the_request_fails_as_in_a_worker(taskq):
    """With the hint that a worker's log would have."""
    app = make_app(taskq, eager=True)
    actor = taskq.actor(lambda: request.path, actor_name="read", max_retries=0)
    with app.test_request_context("/here"):
        job = actor.send()
    assert "Hint: a job has no request" in job.record.error.traceback


def test_a_context_variable_of_the_sender_is_not_seen(taskq):
    """Whatever it belongs to."""
    language = ContextVar("language", default="none")
    language.set("en")
    app = make_app(taskq, eager=True)
    actor = taskq.actor(lambda: language.get(), actor_name="say")
    with app.app_context():
        assert actor.send().get_result() == "none"

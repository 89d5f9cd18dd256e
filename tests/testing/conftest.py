"""What the tests of the test kit share: an app with a clock of the machine, and its jobs."""

from __future__ import annotations

import threading

import pytest
from flask import has_app_context

from flask_taskq import TaskQ
from flask_taskq.testing import JobTester
from tests.support.apps import make_app

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def leaks():
    """Whatever the kit did in a test, nothing of it is left."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before
    assert not has_app_context()


@pytest.fixture
def taskq():
    return TaskQ()


@pytest.fixture
def app(taskq):
    return make_app(taskq, min_backoff=60_000, max_backoff=60_000, time_limit=None)


@pytest.fixture
def jobs(app):
    with JobTester(app) as jobs:
        yield jobs


@pytest.fixture
def ran(taskq):
    """The arguments of what ran; ``note`` is the actor that notes them."""
    ran = []

    @taskq.actor
    def note(value=None, *, loud=False):
        ran.append(value)
        return value

    return ran


@pytest.fixture
def note(ran, app, taskq):
    """Sends a job to ``note``."""

    def send(value, **options):
        with app.app_context():
            return taskq.broker.get_actor("note").send_with_options(args=(value,), **options)

    return send

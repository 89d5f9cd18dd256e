"""Actors of libraries, which know no ``TaskQ``."""

import logging

import pytest
from flask import current_app
from flask import Flask

from flask_taskq import shared_actor
from flask_taskq import TaskQ
from flask_taskq.app import shared_actors as shared
from flask_taskq.testing import drain
from tests.support.apps import make_app
from tests.support.apps import messages


@pytest.fixture(autouse=True)
def declared(monkeypatch):
    """Declarations of a test end with it."""
    monkeypatch.setattr(shared, "_declared", {})


def test_a_shared_actor_runs_in_each_app_that_sends_it():
    """Whichever TaskQ it has."""

    @shared_actor
    def whoami():
        return current_app.name

    apps = [make_app(TaskQ(), name) for name in ("a", "b")]
    for app in apps:
        with app.app_context():
            job = whoami.send()
        drain(app)
        assert job.get_result() == app.name


@pytest.mark.needs("Retries")
def test_a_shared_actor_has_options_as_others():
    """Those of the decorator."""

    @shared_actor(actor_name="mail.send", queue_name="mail", priority=1, max_retries=0)
    def send(to): ...

    taskq = TaskQ()
    app = make_app(taskq)
    actor = taskq.broker_for(app).get_actor("mail.send")
    assert actor is send
    assert (actor.queue_name, actor.priority, actor.options) == ("mail", 1, {"max_retries": 0})


def test_an_actor_that_is_shared_after_an_app_was_set_up_is_known():
    """A blueprint's module may be imported late; a worker finds it as well."""
    taskq = TaskQ()
    apps = [make_app(taskq, name) for name in ("a", "b")]

    @shared_actor
    def late(): ...

    for app in apps:
        assert taskq.broker_for(app).get_actor("late") is late


def test_an_app_that_is_set_up_later_knows_what_was_shared_before():
    """Also when its TaskQ has another app already."""
    taskq = TaskQ()
    make_app(taskq, "a")
    early = shared_actor(actor_name="early")(lambda: None)
    app = make_app(taskq, "b")
    assert taskq.broker_for(app).get_actor("early") is early


def test_a_name_is_shared_once():
    """Two libraries would get each other's jobs."""
    shared_actor(actor_name="send")(lambda: None)
    with pytest.raises(ValueError, match="shared actor named 'send' is declared already"):
        shared_actor(actor_name="send")(lambda: None)


def test_a_name_is_a_projects_or_shared():
    """Whichever comes first; the error says which function has it."""
    taskq = TaskQ()
    taskq.actor(actor_name="send")(lambda: None)
    shared_actor(actor_name="send")(lambda: None)
    with pytest.raises(ValueError, match="'send' is declared already.*lambda"):
        make_app(taskq)


@pytest.mark.needs("Retries")
def test_an_option_that_an_app_does_not_know_is_refused_when_it_is_set_up():
    """Until then nobody can tell."""
    shared_actor(actor_name="send", max_retires=1)(lambda: None)
    with pytest.raises(ValueError, match="actor 'send'.*did you mean 'max_retries'"):
        make_app(TaskQ())


@pytest.fixture
def late():
    """An app that is set up, and a job of it. The TaskQ comes with it."""
    taskq = TaskQ()

    @taskq.actor
    def send_mail(): ...

    @taskq.actor
    def other():
        return "other"

    app = make_app(taskq)
    with app.app_context():
        return taskq, app, other, other.send()


#: What a library may do wrong that is imported late, and what is said of it.
MISTAKES = pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"actor_name": "send_mail"}, "an actor named 'send_mail' is declared already"),
        pytest.param(
            {"actor_name": "late", "max_retires": 1},
            "did you mean 'max_retries'",
            marks=pytest.mark.needs("Retries"),
        ),
    ],
)


@MISTAKES
def test_a_late_shared_actor_that_cannot_be_used_harms_no_other(late, options, text, caplog):
    """Jobs are sent, run and shown as before. What is wrong is in the log, once."""
    taskq, app, other, job = late
    shared_actor(**options)(lambda: None)
    with app.app_context():
        jobs = [other.send(), taskq.job(job.id)]
    drain(app)
    client = app.test_client()
    assert [client.get(f"/jobs/{one.id}").json["result"] for one in jobs] == ["other"] * 2
    [line] = messages(caplog, logging.ERROR)
    assert line.startswith("a shared actor cannot be used")
    assert text in line


@MISTAKES
def test_a_late_shared_actor_that_cannot_be_used_is_not_sent(late, options, text):
    """Nor taken for the one that has its name."""
    taskq, app, other, job = late
    refused = shared_actor(**options)(lambda: None)
    with app.app_context():
        for _ in range(2):
            with pytest.raises(ValueError, match=text):
                refused.send()
    assert [one.id for one in drain(app)] == [job.id]


def test_a_late_shared_actor_is_refused_by_the_app_that_it_does_not_fit(late):
    """Another one takes it."""
    shared = shared_actor(actor_name="send_mail")(lambda: "shared")
    app = make_app(TaskQ())
    with app.app_context():
        job = shared.send()
    drain(app)
    assert job.get_result() == "shared"


def test_sending_without_an_app_says_what_is_missing():
    """As Flask does."""
    send = shared_actor(actor_name="send")(lambda: None)
    with pytest.raises(RuntimeError, match="outside of application context"):
        send.send()


def test_sending_in_an_app_without_a_taskq_says_what_is_missing():
    """The error names the app."""
    send = shared_actor(actor_name="send")(lambda: None)
    with (
        Flask("bare").app_context(),
        pytest.raises(RuntimeError, match="'bare' has no TaskQ.*init_app"),
    ):
        send.send()

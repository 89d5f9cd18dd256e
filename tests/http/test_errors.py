"""What a client is told of a job that has ended without a result."""

from __future__ import annotations

import pytest

from flask_taskq import TaskQ
from flask_taskq.errors import Cancel
from flask_taskq.errors import ResultFailure
from flask_taskq.http.resource import ERROR_TITLES
from flask_taskq.jobs.delivery import Cancelled
from flask_taskq.jobs.delivery import Expired
from flask_taskq.jobs.delivery import Failed
from flask_taskq.jobs.record import JobError
from flask_taskq.testing import drain
from tests.support.apps import make_app
from tests.support.apps import once

SECRET = "could not connect to postgres://shop:hunter2@db"


class OutOfStock(Exception):
    """Its text is for clients, of whichever actor."""

    public_message = True


class SoldOut(OutOfStock):
    """A special one."""


@pytest.fixture
def taskq(clock):
    return TaskQ(clock=clock)


@pytest.fixture
def error_of(taskq):
    """Runs an actor that raises this; what a client is told."""

    def run(exception, *, expose=None, **options):
        def fail():
            raise exception

        app = make_app(taskq, **({} if expose is None else {"expose": expose}))
        actor = taskq.actor(fail, actor_name="fail", **once(), **options)
        with app.app_context():
            job = actor.send()
        drain(app, raise_failures=False)
        return app.test_client().get(f"/jobs/{job.id}").json["error"]

    return run


def test_the_text_of_an_exception_is_not_for_clients(error_of):
    """It is whatever a library has put into it."""
    assert error_of(ConnectionError(SECRET)) == {
        "type": "urn:flask-taskq:problem:job-failed",
        "title": "The job failed",
        "status": 500,
        "detail": None,
        "code": "exception",
        "retryable": False,
        "attempt": 1,
    }


def test_developers_see_the_whole_error(taskq):
    """In the record, and in what the handle raises."""

    def fail():
        raise ConnectionError(SECRET)

    app = make_app(taskq)
    actor = taskq.actor(fail, actor_name="fail", **once())
    with app.app_context():
        job = actor.send()
    drain(app, raise_failures=False)
    error = job.refresh().record.error
    assert (error.type, error.message, error.is_public) == ("ConnectionError", SECRET, False)
    assert SECRET in error.traceback
    with pytest.raises(ResultFailure, match="ConnectionError: could not connect"):
        job.get_result()


@pytest.mark.parametrize("expose", ["error,error_message", "error_message"])
def test_an_app_can_show_the_texts_of_all_errors(error_of, expose):
    """That shows the error, too."""
    error = error_of(ConnectionError("no route"), expose=expose)
    assert (error["detail"], error["code"]) == ("no route", "exception")


def test_a_text_needs_the_error_around_it(error_of):
    """One that is kept back takes its text along."""
    assert error_of(OutOfStock("none left"), expose="actor") is None


@pytest.mark.needs("PublicErrors")
@pytest.mark.parametrize(
    ("public", "exception", "detail"),
    [
        (LookupError, LookupError("no such month"), "no such month"),
        (LookupError, IndexError("no such day"), "no such day"),
        ((TimeoutError, LookupError), LookupError("no such month"), "no such month"),
        (True, ConnectionError("no route"), "no route"),
        (LookupError, ConnectionError(SECRET), None),
        (LookupError, Exception(SECRET), None),
        ((), LookupError(SECRET), None),
        (False, LookupError(SECRET), None),
        (None, LookupError(SECRET), None),
    ],
)
def test_an_actor_says_which_of_its_errors_clients_may_read(
    error_of, public, exception, detail
):
    """By class, as with all that an actor says of errors."""
    assert error_of(exception, public_errors=public)["detail"] == detail


@pytest.mark.needs("PublicErrors")
@pytest.mark.parametrize("value", ["LookupError", 1, [LookupError], (LookupError, "x")])
def test_an_option_of_the_wrong_kind_is_an_error_of_the_declaration(taskq, value):
    """Otherwise nobody would notice before the first failure."""
    taskq.actor(lambda: None, actor_name="work", public_errors=value)
    with pytest.raises(ValueError, match="public_errors is .*; it is a class of exceptions"):
        make_app(taskq)


@pytest.mark.parametrize("exception", [OutOfStock("none left"), SoldOut("none left")])
def test_a_class_of_exceptions_says_that_clients_may_read_it(error_of, exception):
    """For every actor that raises it."""
    assert error_of(exception)["detail"] == "none left"


def test_a_class_can_take_that_back(error_of):
    """For what inherits from it."""

    class Internal(OutOfStock):
        public_message = False

    assert error_of(Internal(SECRET))["detail"] is None


@pytest.mark.parametrize("value", ["yes", 1, lambda self: True])
def test_nothing_but_true_makes_a_class_public(error_of, value):
    """A library may use the name for something else."""
    cls = type("Odd", (Exception,), {"public_message": value})
    assert error_of(cls(SECRET))["detail"] is None


def test_an_exception_does_not_speak_for_its_class(error_of):
    """What is put on an instance is data."""
    error = ConnectionError(SECRET)
    error.public_message = True
    assert error_of(error)["detail"] is None


def test_the_reason_of_a_cancel_is_for_clients(error_of):
    """That is what it is given for."""
    error = error_of(Cancel("the account is closed"))
    assert (error["code"], error["title"]) == ("cancelled", "The job was cancelled")
    assert error["detail"] == "the account is closed"


@pytest.mark.needs("PublicErrors", "Retries")
@pytest.mark.parametrize(
    ("options", "detail"), [({}, None), ({"public_errors": KeyError}, "'gone'")]
)
def test_a_job_that_was_given_up_tells_why_only_if_that_is_public(error_of, options, detail):
    """The exception is like any other."""
    error = error_of(KeyError("gone"), discard_on=KeyError, **options)
    assert (error["code"], error["title"]) == ("discarded", "The job was given up")
    assert error["detail"] == detail


@pytest.mark.needs("PublicErrors")
def test_what_this_package_says_of_the_code_is_for_its_developers(taskq):
    """Its errors have the classes of Python's, which an actor may have made public."""
    app = make_app(taskq)
    actor = taskq.actor(lambda: object(), actor_name="work", public_errors=TypeError)
    with app.app_context():
        job = actor.send()
    drain(app, raise_failures=False)
    error = app.test_client().get(f"/jobs/{job.id}").json["error"]
    assert (error["code"], error["detail"]) == ("bad_result", None)
    assert "result of actor 'work'" in job.refresh().record.error.message


@pytest.mark.parametrize("text", ["no file \udcff", "<script>", "a\nb", "\x00"], ids=ascii)
def test_any_text_of_an_error_can_be_shown(error_of, text):
    """It is whatever the actor raised."""
    detail = error_of(OutOfStock(text))["detail"]
    assert detail == text.encode("utf-8", "backslashreplace").decode()


# Titles


SETTLEMENTS = {
    "cancelled": (Cancelled, "job-cancelled", 409),
    "discarded": (Cancelled, "job-cancelled", 409),
    "expired": (Expired, "job-expired", 410),
}


@pytest.mark.parametrize("code", [*ERROR_TITLES, "from_a_newer_version"])
def test_each_code_has_a_title(taskq, code):
    """A fixed one. A code that this version does not know has that of a failure."""
    app = make_app(taskq)
    actor = taskq.actor(lambda: None, actor_name="work")
    with app.app_context():
        job = actor.send()
    engine = taskq.broker_for(app).engine
    engine.workers.register("w")
    consumer = engine.consumer(["default"], "w")
    [delivery] = consumer.fetch(1, 0)
    cls, kind, status = SETTLEMENTS.get(code, (Failed, "job-failed", 500))
    consumer.settle_if_held(
        [cls(delivery=delivery, error=JobError("OSError", SECRET, code, SECRET))]
    )
    response = app.test_client().get(f"/jobs/{job.id}")
    error = response.json["error"]
    assert error["title"] == ERROR_TITLES.get(code, "The job failed")
    assert (error["code"], error["detail"], error["status"]) == (code, None, status)
    assert error["type"] == f"urn:flask-taskq:problem:{kind}"
    for secret in ("OSError", "hunter2"):
        assert secret not in response.text

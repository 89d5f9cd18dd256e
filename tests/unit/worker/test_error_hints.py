"""What is said with an exception of an actor whose cause is a known one."""

import asyncio

import pytest
from flask import current_app
from flask import g
from flask import request
from flask import session
from flask import url_for
from flask_sqlalchemy import SQLAlchemy
from werkzeug.exceptions import abort
from werkzeug.local import LocalProxy

from flask_taskq import TaskQ
from flask_taskq.testing import drain
from tests.support.apps import make_app
from tests.support.apps import once

NO_REQUEST = "Hint: a job has no request, session or current_user"
OTHER_G = "Hint: a job has a g of its own"
NO_HOST = "Hint: a job has no request that url_for() could take the host from"
NO_ROW = (
    "Hint: this job started {} ms after it was sent, and the row may not have been committed"
)

db = SQLAlchemy()

#: As Flask-Login makes it: outside of a request it stands for None.
current_user = LocalProxy(lambda: None)


class User(db.Model):
    id = db.Column(db.Integer, primary_key=True)
    name = db.Column(db.String)


@pytest.fixture
def taskq(clock):
    return TaskQ(clock=clock)


@pytest.fixture
def app(taskq):
    app = make_app(taskq)
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    db.init_app(app)
    with app.app_context():
        db.create_all()
        yield app
        db.drop_all()
        db.engine.dispose()


def run(app, taskq, fn, **options):
    """Run a function as a job that fails; its error."""
    actor = taskq.actor(fn, actor_name="work", **{**once(), **options})
    actor.send()
    [job] = drain(app, raise_failures=False)
    return job.record.error


def hints(text):
    return [line for line in text.splitlines() if line.startswith("Hint:")]


# --- A request, and g ---


def read_request():
    return request.args["n"]


def read_session():
    return session["n"]


def read_user():
    return current_user.name


def read_g():
    return g.user


def pop_g():
    return g.pop("user")


def make_url():
    return url_for("static", filename="logo.png", _external=True)


@pytest.mark.parametrize(
    ("fn", "hint"),
    [
        (read_request, NO_REQUEST),
        (read_session, NO_REQUEST),
        (read_user, NO_REQUEST),
        (read_g, OTHER_G),
        (pop_g, OTHER_G),
        (make_url, NO_HOST),
    ],
)
def test_what_only_a_request_has_is_to_be_passed_as_an_argument(app, taskq, caplog, fn, hint):
    """The record's traceback says so, and the log's; it names the actor."""
    error = run(app, taskq, fn)

    for text in (error.traceback, caplog.text):
        [line] = hints(text)
        assert line.startswith(hint)
        assert "pass it as an argument: work.send(...)" in line
    assert "Hint" not in error.message


def test_an_async_actor_gets_the_same_hint(app, taskq):
    """It is run by another runner."""

    async def read():
        await asyncio.sleep(0)
        return request.args["n"]

    [line] = hints(run(app, taskq, read).traceback)
    assert line.startswith(NO_REQUEST)


def test_an_exception_that_comes_again_has_its_hint_once(app, taskq):
    """Some libraries raise the same object each time."""
    error = RuntimeError("Working outside of request context.")

    def fail():
        raise error

    actor = taskq.actor(fail, actor_name="work", **once())
    actor.send()
    actor.send()
    assert [
        len(hints(job.record.error.traceback)) for job in drain(app, raise_failures=False)
    ] == [1, 1]


class OddError(RuntimeError):
    def __str__(self):
        raise ValueError("no text")

    def add_note(self, note):
        raise ValueError("no note")


@pytest.mark.parametrize("text", ["", "Working outside of request context."])
def test_an_exception_that_cannot_be_read_is_the_jobs_all_the_same(app, taskq, text):
    """A hint must not take its place."""

    def fail():
        raise OddError(text)

    assert run(app, taskq, fail).type == "OddError"


@pytest.mark.parametrize(
    "fn",
    [
        lambda: {}["user"],
        lambda: current_app.user,
        lambda: None.user,
        lambda: getattr(None, "user"),  # noqa: B009 - without an expression to look at
        lambda: exec("None.user"),  # without a source
        lambda: abort(404),
    ],
)
def test_other_errors_have_no_hint(app, taskq, fn):
    """A wrong one is worse than none."""
    assert hints(run(app, taskq, fn).traceback) == []


# --- A row ---


def get_row():
    user = db.session.get(User, 1)
    return user.name


def get_row_at_once():
    return db.session.get(User, 1).name


def select_row():
    user = db.session.execute(db.select(User)).scalar_one_or_none()
    return user.name


def need_row():
    return db.session.execute(db.select(User)).scalar_one().name


def find_or_404():
    return db.get_or_404(User, 1).name


READS = [get_row, get_row_at_once, select_row, need_row, find_or_404]


@pytest.mark.parametrize("fn", READS)
def test_a_row_that_is_missing_may_not_have_been_committed(app, taskq, clock, fn):
    """Said in a job's first run, when it started soon after it was sent."""
    actor = taskq.actor(fn, actor_name="work", **once())
    actor.send()
    clock.advance(30)
    [job] = drain(app, raise_failures=False)

    [line] = hints(job.record.error.traceback)
    assert line.startswith(NO_ROW.format(30))
    assert "db.session.commit(), and then work.send(...)" in line


class AsyncSession:
    async def get(self, kind, number):
        return None


async def get_row_async():
    session = AsyncSession()
    user = await session.get(User, 1)
    return user.name


def test_a_row_that_was_awaited_may_not_have_been_committed(app, taskq):
    """As with SQLAlchemy's AsyncSession."""
    [line] = hints(run(app, taskq, get_row_async).traceback)
    assert line.startswith(NO_ROW.format(0))


@pytest.mark.parametrize("fn", READS)
def test_a_job_that_waited_had_time_for_a_commit(app, taskq, clock, fn):
    """Its row is missing for another reason."""
    actor = taskq.actor(fn, actor_name="work", **once())
    actor.send()
    clock.advance(10_000)
    [job] = drain(app, raise_failures=False)
    assert hints(job.record.error.traceback) == []


@pytest.mark.needs("Retries")
def test_a_later_run_has_no_hint_about_a_row(app, taskq, clock):
    """By then the row would be there."""
    actor = taskq.actor(need_row, actor_name="work", max_retries=1, min_backoff=500)
    actor.send()
    [first] = drain(app)
    clock.advance(1_000)
    [second] = drain(app, raise_failures=False)
    assert len(hints(first.record.error.traceback)) == 1
    assert hints(second.record.error.traceback) == []


def test_none_that_came_from_elsewhere_is_no_row(app, taskq):
    """The last assignment counts."""

    def work():
        user = db.session.get(User, 1)
        user = {}.get("user")
        return user.name

    assert hints(run(app, taskq, work).traceback) == []


def test_a_job_that_ends_well_is_not_looked_at(app, taskq, monkeypatch):
    """What it does not use costs it nothing."""
    calls = []
    monkeypatch.setattr("flask_taskq.worker.runner.add_hint", lambda *a, **k: calls.append(a))
    actor = taskq.actor(lambda: 1, actor_name="work")
    actor.send()
    assert drain(app)[0].get_result() == 1
    assert calls == []

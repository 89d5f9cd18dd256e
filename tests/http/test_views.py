"""What a view of the app can do with a job besides answering with it."""

from __future__ import annotations

import gc
import json
import logging

import msgspec
import pytest
from flask import Blueprint
from flask import Flask
from flask import jsonify
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import NotFound

from flask_taskq import current_job
from flask_taskq import Status
from flask_taskq import TaskQ
from flask_taskq.clock import END_OF_TIME
from flask_taskq.errors import Cancel
from flask_taskq.errors import ConnectionFailed
from flask_taskq.errors import JobNotFound
from flask_taskq.errors import Retry
from flask_taskq.errors import TaskQError
from flask_taskq.http.resource import MAX_INLINE_RESULT
from flask_taskq.jobs.message import generate_id
from flask_taskq.testing import drain
from tests.support.apps import make_app
from tests.support.apps import messages
from tests.support.apps import once

PROBLEM = "application/problem+json"


@pytest.fixture
def taskq(clock):
    taskq = TaskQ(clock=clock)
    taskq.actor(lambda size=3: "x" * size, actor_name="work")
    return taskq


@pytest.fixture
def app(taskq):
    app = make_app(taskq)
    add_views(app, taskq)
    return app


def add_views(app, taskq):
    """Views that look for a job, in two ways."""

    @app.get("/plain/<job_id>")
    def plain(job_id):
        return jsonify(taskq.job(job_id).as_dict())

    @app.get("/or-404/<job_id>")
    def or_404(job_id):
        return jsonify(taskq.get_job_or_404(job_id).as_dict())


def send(app, taskq, name="work", *args):
    with app.app_context():
        return taskq.broker.get_actor(name).send(*args)


VIEWS = pytest.mark.parametrize("view", ["plain", "or-404"])


# A job that is not there


@VIEWS
@pytest.mark.parametrize("job_id", [generate_id(), "7", "%ED%A0%80"])
def test_a_view_that_looks_for_an_unknown_job_is_a_404(app, view, job_id):
    """As if the app had no such address; nothing of the request is repeated."""
    response = app.test_client().get(f"/{view}/{job_id}")
    assert (response.status_code, response.mimetype) == (404, "text/html")
    assert "No job has this id" in response.text
    assert job_id not in response.text


@VIEWS
@pytest.mark.parametrize("kind", [404, NotFound, HTTPException, Exception])
def test_the_apps_own_page_for_404_is_used(taskq, view, kind):
    """However it is registered, and whenever."""
    for early in (True, False):
        app = Flask("app")
        app.config["TASKQ_BROKER_URL"] = "memory://"
        if early:
            app.register_error_handler(kind, lambda error: (f"mine: {error.code}", 404))
        taskq.init_app(app)
        if not early:
            app.register_error_handler(kind, lambda error: (f"mine: {error.code}", 404))
        add_views(app, taskq)
        assert app.test_client().get(f"/{view}/7").text == "mine: 404"


@pytest.mark.parametrize("early", [True, False])
def test_the_apps_own_handler_for_unknown_jobs_wins(taskq, early):
    """Whether it was registered before the extension or after it."""
    app = Flask("app")
    app.config["TASKQ_BROKER_URL"] = "memory://"
    if early:
        app.register_error_handler(JobNotFound, lambda error: ("mine", 410))
    taskq.init_app(app)
    if not early:
        app.register_error_handler(JobNotFound, lambda error: ("mine", 410))
    add_views(app, taskq)
    response = app.test_client().get("/plain/7")
    assert (response.status_code, response.text) == (410, "mine")


def test_a_blueprints_own_handler_wins(taskq):
    """For its views."""
    app = make_app(taskq)
    shop = Blueprint("shop", "app")
    shop.register_error_handler(JobNotFound, lambda error: ("the shop's", 410))
    shop.add_url_rule("/shop", view_func=lambda: taskq.job("7"), endpoint="index")
    app.register_blueprint(shop)
    add_views(app, taskq)
    client = app.test_client()
    assert client.get("/shop").text == "the shop's"
    assert client.get("/plain/7").status_code == 404


def test_the_routes_of_jobs_answer_with_a_problem_all_the_same(app):
    """Their clients are no people."""
    app.register_error_handler(404, lambda error: ("mine", 404))
    app.register_error_handler(JobNotFound, lambda error: ("mine", 410))
    assert app.test_client().get("/jobs/7").mimetype == PROBLEM


def test_other_errors_are_the_apps_to_answer(app):
    """They say something about the program."""
    app.register_error_handler(TaskQError, lambda error: ("mine", 503))

    @app.get("/fails")
    def fails():
        raise ConnectionFailed("gone")

    assert app.test_client().get("/fails").text == "mine"


def test_outside_of_a_request_it_is_werkzeugs_error(app, taskq):
    """Which a test, or a command, can catch."""
    with app.app_context(), pytest.raises(NotFound) as caught:
        taskq.get_job_or_404("7")
    assert isinstance(caught.value.__context__, JobNotFound)


@VIEWS
def test_a_job_that_is_there_is_found(app, taskq, view):
    """With all that the resource shows."""
    job = send(app, taskq)
    client = app.test_client()
    assert client.get(f"/{view}/{job.id}").json == client.get(f"/jobs/{job.id}").json


# What is known of one


@pytest.mark.parametrize("status", list(Status))
def test_a_job_is_done_when_its_status_is_final(app, taskq, status):
    """As it was last seen: nobody is asked."""
    job = send(app, taskq)
    job.record = msgspec.structs.replace(job.record, status=status)
    job._source = None
    assert job.done is status.is_final


def test_a_handle_is_not_done_before_it_has_looked_again(app, taskq):
    """It knows what it has seen."""
    job = send(app, taskq)
    drain(app)
    assert [job.done, job.refresh().done] == [False, True]


@pytest.mark.needs("CurrentJob", "Retries")
@pytest.mark.parametrize("ending", ["waits", "succeeds", "fails", "is cancelled", "retries"])
def test_a_dict_of_a_job_is_what_clients_get(taskq, ending):
    """The same members with the same values, ready for JSON."""

    @taskq.actor(actor_name="act", max_retries=0 if ending == "fails" else 1)
    def act():
        current_job.progress(1, 2, "half")
        if ending == "succeeds":
            return {"a": [1, None, "ü", 2**60, 1.5]}
        raise {"fails": ValueError(), "is cancelled": Cancel("no"), "retries": Retry()}[ending]

    app = make_app(taskq)
    job = send(app, taskq, "act")
    if ending != "waits":
        drain(app, raise_failures=False)
    shown = app.test_client().get(f"/jobs/{job.id}").json
    with app.app_context():
        plain = taskq.job(job.id).as_dict()
    assert list(plain) == list(shown)
    assert plain == shown == json.loads(json.dumps(plain))
    assert type(plain["status"]) is str


def test_a_dict_of_a_job_keeps_back_what_the_resource_does(taskq):
    """It is meant to be sent to clients."""
    app = make_app(taskq, expose="actor")
    job = send(app, taskq)
    drain(app)
    shown = job.refresh().as_dict()
    assert (shown["actor"], shown["result"], shown["links"]) == (
        "work",
        None,
        {"cancel": f"/jobs/{job.id}"} if not job.done else {},
    )


def test_a_large_result_is_not_in_the_dict(taskq):
    """It says where it is."""
    app = make_app(taskq)
    job = send(app, taskq, "work", MAX_INLINE_RESULT)
    drain(app)
    shown = job.refresh().as_dict()
    assert (shown["result"], shown["result_url"]) == (None, f"/jobs/{job.id}/result")


def test_a_job_whose_app_is_gone_can_be_shown(taskq):
    """Without an address."""
    app = make_app(taskq)
    job = send(app, taskq)
    del app
    gc.collect()
    shown = job.as_dict()
    assert (shown["actor"], shown["self"], shown["links"]) == ("work", None, {})


# What must not be an error of the server


@pytest.mark.parametrize("field", ["scheduled_for", "expires_at", "finished_at"])
def test_a_time_that_no_date_can_say_is_shown_as_the_last_one(app, taskq, monkeypatch, field):
    """An older version may have stored it."""
    job = send(app, taskq)
    record = msgspec.structs.replace(job.record, **{field: 10**17})
    monkeypatch.setattr(taskq.broker_for(app).engine.jobs, "get", lambda job_id: record)
    shown = app.test_client().get(f"/jobs/{job.id}")
    assert (shown.status_code, shown.json[field][:10]) == (200, "9999-12-31")
    assert END_OF_TIME < 10**17


HALF = "na\udce9"


class Unreadable(Exception):
    """Its text is an error of its own."""

    def __str__(self):
        raise ValueError(HALF)


class Named(type):
    """A class with half a surrogate pair in its name."""

    @property
    def __name__(cls):
        return HALF


class Odd(Exception, metaclass=Named):
    """One of these."""


@pytest.mark.needs("CurrentJob")
@pytest.mark.parametrize(
    "ending",
    [HALF, {HALF: 1}, [HALF], ValueError(HALF), Cancel(HALF), Unreadable(), Odd(HALF)],
    ids=ascii,
)
def test_half_a_surrogate_pair_is_never_an_error_of_the_server(taskq, caplog, ending):
    """As in a name of a file that is not UTF-8, wherever a job has put it."""

    def act():
        current_job.progress(1, 2, HALF)
        current_job.log(HALF)
        if isinstance(ending, Exception):
            raise ending
        return ending

    app = make_app(taskq, expose="error_message, progress, result")
    add_views(app, taskq)
    taskq.actor(act, actor_name="act", **once())
    job = send(app, taskq, "act")
    drain(app, raise_failures=False)
    client = app.test_client()
    for path in ("jobs", "plain"):
        shown = client.get(f"/{path}/{job.id}")
        assert (shown.status_code, shown.json["done"]) == (200, True)
        assert shown.json["progress"]["message"] == r"na\udce9"
        assert shown.json["error"]["detail"] != ""


def test_half_a_surrogate_pair_in_a_result_of_another_program_is_shown(taskq, monkeypatch):
    """As it stands there."""
    app = make_app(taskq)
    add_views(app, taskq)
    job = send(app, taskq)
    record = msgspec.structs.replace(
        job.record, status=Status.SUCCEEDED, result=rb'["\udce9", 1]'
    )
    monkeypatch.setattr(taskq.broker_for(app).engine.jobs, "get", lambda job_id: record)
    client = app.test_client()
    for path in ("jobs", "plain"):
        assert client.get(f"/{path}/{job.id}").json["result"] == ["\udce9", 1]


# A developer who has started no worker


@pytest.fixture
def new_app(taskq, tmp_path):
    """Makes apps with a view that sends a job."""

    def make(url=f"sqlite:///{tmp_path}/taskq.sqlite3", *, debug=True, testing=False, **config):
        app = make_app(taskq, broker_url=url, **config)
        app.debug, app.testing = debug, testing

        @app.post("/")
        def index():
            return taskq.accepted(taskq.broker.get_actor("work").send())

        return app

    return make


def warnings_after(caplog, app, requests=3):
    """What has been warned of after some requests."""
    for _ in range(requests):
        assert app.test_client().post("/").status_code == 202
    return messages(caplog, logging.WARNING)


def test_a_developer_is_told_once_that_no_worker_is_there(new_app, caplog):
    """With the job, and the command that starts one."""
    [text] = warnings_after(caplog, new_app())
    assert "of actor 'work' waits for a worker, and none is running" in text
    assert "`flask taskq worker`" in text


def test_a_developer_who_has_a_worker_is_told_nothing(new_app, taskq, caplog):
    """It has a lease."""
    app = new_app()
    taskq.broker_for(app).engine.workers.register("w")
    assert warnings_after(caplog, app) == []


@pytest.mark.parametrize(
    "config",
    [
        {"url": "memory://"},
        {"eager": True},
        {"debug": False},
        {"testing": True},
    ],
    ids=str,
)
def test_nobody_else_is_told_of_workers(new_app, caplog, config):
    """Nor is the engine asked, where a worker is not to be expected or watched by others."""
    app = new_app(**config)
    app.extensions["taskq"].broker_for(app).engine.workers.count = None
    assert warnings_after(caplog, app) == []


def test_the_engine_is_asked_for_workers_once(new_app, taskq, caplog):
    """Also when it does not answer: the job was sent, and that is what matters."""
    app = new_app()
    asked = []

    def count():
        asked.append(1)
        raise ConnectionFailed("gone")

    taskq.broker_for(app).engine.workers.count = count
    assert warnings_after(caplog, app) == []
    assert asked == [1]

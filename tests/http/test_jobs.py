"""``/jobs/<id>``, and the answer of a view that has sent a job."""

import json
import logging
import sqlite3
from datetime import datetime
from datetime import UTC

import pytest
from flask import Flask

from flask_taskq import current_job
from flask_taskq import TaskQ
from flask_taskq.errors import Cancel
from flask_taskq.errors import ConnectionClosed
from flask_taskq.http.resource import MAX_INLINE_RESULT
from flask_taskq.jobs.delivery import Report
from flask_taskq.jobs.message import generate_id
from flask_taskq.jobs.record import Progress
from flask_taskq.testing import drain
from tests.support.apps import make_app
from tests.support.apps import messages
from tests.support.apps import once

MEMBERS = [
    "id",
    "self",
    "links",
    "actor",
    "queue",
    "status",
    "done",
    "status_reason",
    "cancel_requested",
    "created_at",
    "scheduled_for",
    "started_at",
    "updated_at",
    "finished_at",
    "expires_at",
    "attempt",
    "max_attempts",
    "next_attempt_at",
    "progress",
    "result",
    "result_url",
    "error",
    "parent",
    "batch",
    "metadata",
]

PROBLEM = "application/problem+json"


@pytest.fixture
def taskq(clock):
    taskq = TaskQ(clock=clock)
    taskq.actor(lambda a, b: a + b, actor_name="add")
    taskq.actor(lambda size: "x" * size, actor_name="large")

    @taskq.actor
    def fail():
        raise LookupError("no such month")

    return taskq


@pytest.fixture
def app(taskq):
    return make_app(taskq, min_backoff=60_000, max_backoff=60_000, max_retries=1)


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture
def send(app, taskq):
    def send(name, *args, **options):
        with app.app_context():
            actor = taskq.broker.get_actor(name)
            return actor.send_with_options(args=args, **options).id

    return send


@pytest.fixture
def in_status(app, taskq, clock, send):
    """Makes a job that is as it should be; its id."""

    def claim(job_id):
        engine = taskq.broker_for(app).engine
        engine.workers.register("w")
        [delivery] = engine.consumer(["default"], "w").fetch(1, 0)
        assert delivery.id == job_id
        return job_id

    def make(status):
        if status == "scheduled":
            return send("add", 1, 2, delay=60_000)
        if status in ("retrying", "failed"):
            job_id = send("fail")
            drain(app)
            if status == "failed":
                clock.advance(60_000)
                drain(app, raise_failures=False)
            return job_id
        job_id = send("add", 1, 2)
        if status == "running":
            claim(job_id)
        elif status == "succeeded":
            drain(app)
        elif status == "cancelled":
            with app.app_context():
                taskq.job(job_id).cancel()
        return job_id

    return make


STATUSES = ["scheduled", "queued", "running", "retrying", "succeeded", "failed", "cancelled"]
FINAL = {"succeeded", "failed", "cancelled"}


def text_of(at):
    text = datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


# The resource


@pytest.mark.needs("Retries")
@pytest.mark.parametrize("status", STATUSES)
def test_a_known_job_is_shown_with_every_member(client, in_status, status):
    """Whatever it is doing, and also when it has failed."""
    job_id = in_status(status)
    response = client.get(f"/jobs/{job_id}")
    assert (response.status_code, response.mimetype) == (200, "application/json")
    assert list(response.json) == MEMBERS
    assert response.json["id"] == job_id
    assert response.json["self"] == f"/jobs/{job_id}"
    assert response.json["status"] == status
    assert response.json["done"] is (status in FINAL)


@pytest.mark.needs("Retries")
def test_a_queued_job(client, clock, send):
    """Nothing has happened yet."""
    job_id = send("add", 1, 2)
    job = client.get(f"/jobs/{job_id}").json
    # A message is stamped by the machine's clock.
    assert job.pop("created_at").endswith("Z")
    assert job == {
        "id": job_id,
        "self": f"/jobs/{job_id}",
        "links": {"cancel": f"/jobs/{job_id}"},
        "actor": "add",
        "queue": None,
        "status": "queued",
        "done": False,
        "status_reason": None,
        "cancel_requested": False,
        "scheduled_for": None,
        "started_at": None,
        "updated_at": text_of(clock.now()),
        "finished_at": None,
        "expires_at": None,
        "attempt": 0,
        "max_attempts": 2,
        "next_attempt_at": None,
        "progress": None,
        "result": None,
        "result_url": None,
        "error": None,
        "parent": None,
        "batch": None,
        "metadata": {},
    }


def test_a_job_that_succeeded(client, clock, in_status):
    """Its result is in it."""
    job_id = in_status("succeeded")
    job = client.get(f"/jobs/{job_id}").json
    assert (job["result"], job["result_url"], job["error"]) == (3, None, None)
    assert (job["attempt"], job["finished_at"]) == (1, text_of(clock.now()))
    assert job["expires_at"] == text_of(clock.now() + 24 * 3600 * 1000)
    assert job["links"] == {"result": f"/jobs/{job_id}/result"}


@pytest.mark.needs("CurrentJob")
def test_a_running_job_shows_its_progress(app, client, taskq, clock, send):
    """With the fraction that is done, for a progress bar."""

    @taskq.actor
    def load():
        current_job.progress(3, 4, "three of four <b>rows</b>")

    job_id = send("load")
    drain(app)
    shown = client.get(f"/jobs/{job_id}").json["progress"]
    assert shown == {
        "current": 3.0,
        "total": 4.0,
        "fraction": 0.75,
        "unit": None,
        "message": "three of four <b>rows</b>",
        "updated_at": text_of(clock.now()),
    }


def test_progress_is_shown_while_the_job_runs(app, client, taskq, clock, send):
    """A change of it is a change of the resource."""
    job_id = send("add", 1, 2)
    engine = taskq.broker_for(app).engine
    engine.workers.register("w")
    consumer = engine.consumer(["default"], "w")
    [delivery] = consumer.fetch(1, 0)
    tag = client.get(f"/jobs/{job_id}").headers["ETag"]
    consumer.report_if_held(
        [Report(delivery=delivery, progress=Progress(1.0, None, None, clock.now()))]
    )
    response = client.get(f"/jobs/{job_id}", headers={"If-None-Match": tag})
    assert response.status_code == 200
    assert response.json["progress"]["current"] == 1.0


@pytest.mark.needs("CurrentJob")
@pytest.mark.parametrize(
    ("current", "total", "fraction"),
    [(1, None, None), (0, 0, None), (0, 4, 0.0), (4, 4, 1.0), (5, 4, 1.0), (-1, 4, 0.0)],
)
def test_a_fraction_is_from_nothing_to_all(app, client, taskq, send, current, total, fraction):
    """Or null, where nobody knows how much there is. Estimates may be wrong."""
    taskq.actor(lambda: current_job.progress(current, total), actor_name="load")
    job_id = send("load")
    drain(app)
    assert client.get(f"/jobs/{job_id}").json["progress"]["fraction"] == fraction


def test_progress_is_kept_back_if_the_app_says_so(taskq):
    """It is there, and null."""
    app = make_app(taskq, expose="actor")
    actor = taskq.actor(lambda: current_job.progress(1, 2), actor_name="load")
    with app.app_context():
        job = actor.send()
    drain(app)
    assert app.test_client().get(f"/jobs/{job.id}").json["progress"] is None


@pytest.mark.needs("CurrentJob")
def test_the_log_of_a_job_is_not_shown(app, client, taskq, send):
    """It may have whatever the app logs, and is for those who run it."""
    taskq.actor(lambda: current_job.log("canary-7f3a"), actor_name="load")
    job_id = send("load")
    drain(app)
    with app.app_context():
        assert taskq.job(job_id).record.logs[0].text == "canary-7f3a"
    assert "canary-7f3a" not in client.get(f"/jobs/{job_id}").text


@pytest.mark.needs("Retries")
def test_a_job_that_waits_for_its_next_attempt(client, clock, in_status):
    """It is stored as scheduled and shown as retrying."""
    job = client.get(f"/jobs/{in_status('retrying')}").json
    at = datetime.fromisoformat(job["next_attempt_at"]).timestamp() * 1000 - clock.now()
    assert 30_000 <= at <= 60_000
    assert job["scheduled_for"] == job["next_attempt_at"]
    assert (job["attempt"], job["max_attempts"], job["error"]) == (1, 2, None)


def test_a_delayed_job_has_no_next_attempt(client, clock, in_status):
    """Its first one is not a retry."""
    job = client.get(f"/jobs/{in_status('scheduled')}").json
    assert job["scheduled_for"] == text_of(clock.now() + 60_000)
    assert job["next_attempt_at"] is None


@pytest.mark.needs("Retries")
def test_a_job_that_failed_has_an_error(client, in_status):
    """A problem object, in an answer that is itself a success."""
    job = client.get(f"/jobs/{in_status('failed')}").json
    assert job["error"] == {
        "type": "urn:flask-taskq:problem:job-failed",
        "title": "The job failed",
        "status": 500,
        "detail": None,
        "code": "exception",
        "retryable": False,
        "attempt": 2,
    }
    assert (job["result"], job["links"]) == (None, {})


def test_a_job_that_was_cancelled_has_an_error(client, in_status):
    """So that a client which looks for a result finds out why there is none."""
    error = client.get(f"/jobs/{in_status('cancelled')}").json["error"]
    assert (error["code"], error["status"], error["detail"]) == ("cancelled", 409, None)


@pytest.mark.needs("AgeLimit")
def test_a_job_that_has_expired_has_an_error(app, client, taskq, clock, send):
    """Its code says so."""
    taskq.actor(lambda: None, actor_name="old", max_age=1_000)
    job_id = send("old")
    clock.advance(2_000)
    drain(app)
    job = client.get(f"/jobs/{job_id}").json
    assert (job["status"], job["done"], job["attempt"]) == ("expired", True, 0)
    error = job["error"]
    assert (error["code"], error["status"], error["detail"]) == ("expired", 410, None)
    assert error["title"] == "The job expired before it could run"


def test_a_job_that_was_given_up_tells_why(app, client, taskq, send):
    """In the actor's words."""

    def give_up():
        raise Cancel("the account is closed")

    taskq.actor(give_up, actor_name="give_up")
    job_id = send("give_up")
    drain(app)
    job = client.get(f"/jobs/{job_id}").json
    assert (job["status"], job["error"]["code"]) == ("cancelled", "cancelled")
    assert job["error"]["detail"] == "the account is closed"


def test_no_answer_shows_how_the_app_is_built(client, in_status):
    """No class of an exception, no traceback, no path, and no argument."""
    for status in ("retrying", "failed"):
        text = client.get(f"/jobs/{in_status(status)}").text
        for secret in ("LookupError", "no such", "Traceback", __file__, "lambda", "args"):
            assert secret not in text


# Headers


@pytest.mark.needs("Retries")
@pytest.mark.parametrize("status", STATUSES)
def test_a_client_is_told_when_to_ask_again_until_the_job_is_done(client, in_status, status):
    """In whole seconds, and not at all afterwards."""
    headers = client.get(f"/jobs/{in_status(status)}").headers
    assert ("Retry-After" in headers) is (status not in FINAL)
    if status not in FINAL:
        assert 1 <= int(headers["Retry-After"]) <= 30


@pytest.mark.parametrize(
    ("delay", "expected"), [(1, 1), (1_000, 1), (1_001, 2), (29_001, 30), (3_600_000, 30)]
)
def test_a_client_need_not_ask_before_the_job_is_due(client, send, delay, expected):
    """Rounded up, and not for ever."""
    job_id = send("add", 1, 2, delay=delay)
    assert client.get(f"/jobs/{job_id}").headers["Retry-After"] == str(expected)


def test_a_job_that_is_overdue_is_asked_for_soon(client, clock, send):
    """No worker has come by yet."""
    job_id = send("add", 1, 2, delay=5_000)
    clock.advance(60_000)
    assert client.get(f"/jobs/{job_id}").headers["Retry-After"] == "1"


def test_no_cache_keeps_an_answer(client, in_status):
    """The status changes, and who may see it is the app's business."""
    headers = client.get(f"/jobs/{in_status('queued')}").headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["Vary"] == "Accept, Authorization, Cookie"


def test_an_answer_that_has_not_changed_is_not_sent_again(client, in_status):
    """304, and the time to ask again."""
    url = f"/jobs/{in_status('queued')}"
    etag = client.get(url).headers["ETag"]
    response = client.get(url, headers={"If-None-Match": etag})
    assert (response.status_code, response.data) == (304, b"")
    assert response.headers["ETag"] == etag
    assert response.headers["Retry-After"] == "1"


def test_an_answer_that_has_changed_is_sent(app, client, send):
    """Each change of the record is a new version."""
    url = f"/jobs/{send('add', 1, 2)}"
    etags = [client.get(url).headers["ETag"]]
    drain(app)
    response = client.get(url, headers={"If-None-Match": etags[0]})
    assert (response.status_code, response.json["status"]) == (200, "succeeded")
    assert response.headers["ETag"] not in etags


def test_the_head_is_that_of_the_answer(client, in_status):
    """Without the body."""
    url = f"/jobs/{in_status('queued')}"
    head, get = client.head(url), client.get(url)
    assert (head.status_code, head.data) == (200, b"")
    for name in ("Content-Type", "ETag", "Retry-After", "Cache-Control"):
        assert head.headers[name] == get.headers[name]


def test_the_options_are_told(client, in_status):
    """By Flask itself."""
    response = client.options(f"/jobs/{in_status('queued')}")
    assert response.status_code == 200
    assert set(response.allow) == {"GET", "HEAD", "OPTIONS", "DELETE"}


def test_other_methods_are_not_allowed(client, in_status):
    """There is nothing to post to."""
    assert client.post(f"/jobs/{in_status('queued')}").status_code == 405


# Unknown jobs


@pytest.fixture
def expired(app, clock, in_status):
    job_id = in_status("succeeded")
    clock.advance(24 * 3600 * 1000)
    return job_id


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("path", ["", "/result"])
def test_all_unknown_jobs_look_the_same(client, expired, method, path):
    """Never existed, was kept long enough, or is no id at all: one cannot tell."""
    if (method, path) == ("DELETE", "/result"):
        method = "HEAD"
    ids = [generate_id(), expired, "7", "A" * 32, "a" * 33, "%00", "..%2e", "x'--", "ü"]
    answers = [client.open(f"/jobs/{job_id}{path}", method=method) for job_id in ids]
    assert {answer.status_code for answer in answers} == {404}
    assert {answer.mimetype for answer in answers} == {PROBLEM}
    assert len({(answer.data, str(answer.headers)) for answer in answers}) == 1


def test_an_unknown_job_is_a_problem(client):
    """As RFC 9457 has it; nothing of the request is repeated."""
    response = client.get(f"/jobs/{generate_id()}")
    assert response.headers["Cache-Control"] == "no-store"
    assert response.json == {
        "type": "urn:flask-taskq:problem:job-not-found",
        "title": "No such job",
        "status": 404,
        "detail": "No job has this id: it never existed, or it was kept long enough.",
    }


def test_the_engine_is_not_asked_for_what_is_no_id(app, client, taskq, monkeypatch):
    """It gets no text of a stranger's."""
    monkeypatch.setattr(taskq.broker_for(app).engine.jobs, "get", None)
    assert client.get("/jobs/7").status_code == 404


def test_the_apps_own_handler_for_404_is_not_used(app, client):
    """A client of the jobs expects a problem; other routes are the app's."""
    app.register_error_handler(404, lambda error: ("mine", 404))
    assert client.get(f"/jobs/{generate_id()}").mimetype == PROBLEM
    assert client.get("/elsewhere").text == "mine"


# Cancelling


@pytest.mark.needs("Retries")
@pytest.mark.parametrize("status", ["queued", "scheduled", "retrying"])
def test_a_waiting_job_is_cancelled(app, client, in_status, status):
    """At once; it does not run."""
    job_id = in_status(status)
    response = client.delete(f"/jobs/{job_id}")
    assert (response.status_code, response.json["status"]) == (200, "cancelled")
    assert response.json["cancel_requested"] is True
    assert drain(app) == []
    assert client.get(f"/jobs/{job_id}").json["status"] == "cancelled"


def test_a_running_job_is_asked_to_stop(client, in_status):
    """It may end well all the same."""
    response = client.delete(f"/jobs/{in_status('running')}")
    assert (response.status_code, response.json["status"]) == (202, "running")
    assert response.json["cancel_requested"] is True
    assert response.headers["Retry-After"] == "1"


def test_cancelling_twice_is_no_error(client, in_status):
    """Nothing changes by it."""
    url = f"/jobs/{in_status('cancelled')}"
    before = client.get(url)
    response = client.delete(url)
    assert (response.status_code, response.json) == (200, before.json)
    assert response.headers["ETag"] == before.headers["ETag"]


@pytest.mark.parametrize("status", ["succeeded", "failed"])
def test_a_finished_job_cannot_be_cancelled(client, in_status, status):
    """Its outcome stands."""
    url = f"/jobs/{in_status(status)}"
    response = client.delete(url)
    assert (response.status_code, response.mimetype) == (409, PROBLEM)
    assert response.json["type"].endswith(":job-not-cancellable")
    assert response.json["detail"] == f"The job is {status} already."
    assert client.get(url).json["status"] == status


@pytest.mark.needs("CurrentJob")
@pytest.mark.needs("CurrentJob", "Retries")
def test_a_cancelled_job_that_fails_does_not_run_again(app, client, taskq, send):
    """It was asked to stop while it ran."""

    @taskq.actor(actor_name="stubborn")
    def stubborn():
        client.delete(f"/jobs/{current_job.id}")
        raise ValueError("no")

    job_id = send("stubborn")
    drain(app)
    assert client.get(f"/jobs/{job_id}").json["status"] == "cancelled"


# Results


def test_a_large_result_is_somewhere_else(app, client, send):
    """The resource is polled, and should stay small."""
    job_id = send("large", MAX_INLINE_RESULT)
    drain(app)
    job = client.get(f"/jobs/{job_id}").json
    assert (job["result"], job["result_url"]) == (None, f"/jobs/{job_id}/result")
    response = client.get(job["result_url"])
    assert (response.status_code, response.mimetype) == (200, "application/json")
    assert response.json == "x" * MAX_INLINE_RESULT
    assert response.headers["Cache-Control"] == "no-store"


def test_a_result_at_the_limit_is_in_the_resource(app, client, send):
    """Its size is that of its JSON."""
    job_id = send("large", MAX_INLINE_RESULT - 2)
    drain(app)
    job = client.get(f"/jobs/{job_id}").json
    assert (len(job["result"]), job["result_url"]) == (MAX_INLINE_RESULT - 2, None)


def test_a_small_result_has_its_route_too(client, in_status):
    """The link to it is in the resource."""
    job = client.get(f"/jobs/{in_status('succeeded')}").json
    assert client.get(job["links"]["result"]).json == 3


@pytest.mark.parametrize("status", ["queued", "running", "retrying", "failed", "cancelled"])
def test_a_result_that_is_not_there_is_a_problem(client, in_status, status):
    """The job itself is known."""
    response = client.get(f"/jobs/{in_status(status)}/result")
    assert (response.status_code, response.mimetype) == (409, PROBLEM)
    assert response.json["type"].endswith(":result-not-ready")


# What is let out


@pytest.mark.parametrize(
    ("expose", "shown"),
    [
        ("", set()),
        ("result", {"result"}),
        ("queue, actor", {"queue", "actor"}),
        (["error"], {"error"}),
        (("actor", "result", "error", "queue"), {"actor", "result", "error", "queue"}),
    ],
)
def test_the_app_says_which_members_are_let_out(taskq, clock, expose, shown):
    """The others are there, and null."""
    app = make_app(taskq, expose=expose)
    client = app.test_client()
    with app.app_context():
        add, fail = taskq.broker.get_actor("add"), taskq.broker.get_actor("fail")
        jobs = [add.send(1, 2), fail.send_with_options(**once())]
    drain(app, raise_failures=False)
    found = set()
    for job in jobs:
        body = client.get(f"/jobs/{job.id}").json
        assert list(body) == MEMBERS
        for member in ("actor", "queue", "result", "error"):
            if body[member] is not None:
                found.add(member)
    assert found == shown


def test_a_result_that_is_kept_back_has_no_other_way_out(taskq):
    """Nor a link."""
    app = make_app(taskq, expose="actor")
    client = app.test_client()
    with app.app_context():
        job = taskq.broker.get_actor("large").send(MAX_INLINE_RESULT)
    drain(app)
    body = client.get(f"/jobs/{job.id}").json
    assert (body["result"], body["result_url"], body["links"]) == (None, None, {})
    assert client.get(f"/jobs/{job.id}/result").status_code == 409


# Where it is


def test_the_prefix_can_be_chosen(taskq):
    """Every URL follows."""
    app = make_app(taskq, jobs_url_prefix="/api/tasks")
    client = app.test_client()
    with app.app_context():
        job = taskq.broker.get_actor("add").send(1, 2)
    body = client.get(f"/api/tasks/{job.id}").json
    assert body["self"] == body["links"]["cancel"] == f"/api/tasks/{job.id}"
    assert client.get(f"/jobs/{job.id}").status_code == 404


def test_without_a_prefix_there_are_no_routes(taskq):
    """The app shows its jobs in its own way, or not at all."""
    app = make_app(taskq, jobs_url_prefix=None)
    assert [rule.rule for rule in app.url_map.iter_rules()] == ["/static/<path:filename>"]


def test_an_app_can_register_the_blueprint_itself(taskq):
    """With a prefix, a name or a guard of its own."""
    app = make_app(taskq, jobs_url_prefix=None)
    blueprint = taskq.jobs_blueprint()
    blueprint.before_request(lambda: ("locked", 403))
    app.register_blueprint(blueprint, url_prefix="/mine")
    with app.app_context():
        job = taskq.broker.get_actor("add").send(1, 2)
    assert app.test_client().get(f"/mine/{job.id}").text == "locked"


def test_urls_follow_where_the_app_is_mounted(app, client, in_status):
    """Under a server's prefix."""
    job_id = in_status("queued")
    response = client.get(f"/jobs/{job_id}", environ_overrides={"SCRIPT_NAME": "/shop"})
    assert response.json["self"] == f"/shop/jobs/{job_id}"


# The answer of a view


def view(app, taskq, **options):
    """A view that sends a job and says so."""

    @app.post("/reports")
    def create_report():
        return taskq.accepted(taskq.broker.get_actor("add").send(1, 2), **options)

    return app.test_client()


def test_an_accepted_job_is_a_202_with_its_location(app, taskq):
    """Relative, so that it is right behind any proxy."""
    response = view(app, taskq).post("/reports")
    assert response.status_code == 202
    assert response.headers["Location"] == f"/jobs/{response.json['id']}"
    assert response.headers["Retry-After"] == "1"
    assert response.headers["Cache-Control"] == "no-store"


def test_an_accepted_jobs_body_is_the_resource(app, taskq):
    """The same as at its location, as long as nothing has happened."""
    client = view(app, taskq)
    response = client.post("/reports")
    shown = client.get(response.headers["Location"])
    assert response.json == shown.json
    assert response.headers["ETag"] == shown.headers["ETag"]


def test_an_accepted_jobs_location_follows_where_the_app_is_mounted(app, taskq):
    """Under a server's prefix."""
    response = view(app, taskq).post("/reports", environ_overrides={"SCRIPT_NAME": "/shop"})
    assert response.headers["Location"] == f"/shop/jobs/{response.json['id']}"


def test_an_accepted_job_can_have_a_location_of_the_apps_own(app, taskq):
    """The resource still says where the job itself is."""
    response = view(app, taskq, location="/reports/7").post("/reports")
    assert response.headers["Location"] == "/reports/7"
    assert response.json["self"] == f"/jobs/{response.json['id']}"


def test_without_routes_an_accepted_job_has_no_location(taskq):
    """There is nothing to point to."""
    app = make_app(taskq, jobs_url_prefix=None)
    response = view(app, taskq).post("/reports")
    assert response.status_code == 202
    assert "Location" not in response.headers
    assert (response.json["self"], response.json["links"]) == (None, {})
    assert list(response.json) == MEMBERS


def test_without_routes_an_accepted_job_can_have_a_location_of_the_apps_own(taskq):
    """No link leads to a route that is not there."""
    app = make_app(taskq, jobs_url_prefix=None)
    response = view(app, taskq, location="/reports/7").post("/reports")
    assert response.headers["Location"] == "/reports/7"
    assert response.json["links"] == {}


def test_a_job_can_be_accepted_that_is_done_already(app, taskq):
    """202 all the same, with its result, and no time to ask again."""

    @app.post("/reports")
    def create_report():
        job = taskq.broker.get_actor("add").send(1, 2)
        drain(app)
        return taskq.accepted(job.refresh())

    response = app.test_client().post("/reports")
    assert (response.status_code, response.json["result"]) == (202, 3)
    assert "Retry-After" not in response.headers


# Trouble


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_engine_out_of_reach_is_a_503(app, client, taskq, monkeypatch, caplog, method):
    """The client may come again; what is wrong is in the log and not in the answer."""

    def gone(job_id):
        raise ConnectionClosed("/var/lib/secret.sqlite3 is locked")

    monkeypatch.setattr(taskq.broker_for(app).engine.jobs, "get", gone)
    response = client.open(f"/jobs/{generate_id()}", method=method)
    assert (response.status_code, response.mimetype) == (503, PROBLEM)
    assert response.json["type"].endswith(":broker-unavailable")
    assert response.headers["Retry-After"] == "5"
    assert "secret" not in response.text
    assert "secret.sqlite3 is locked" in messages(caplog, logging.ERROR)[0]


def test_an_engine_out_of_reach_when_a_view_sends_is_the_apps_to_answer(
    app, taskq, monkeypatch
):
    """The view decides what that means for its client."""

    def gone(envelopes):
        raise ConnectionClosed("gone")

    monkeypatch.setattr(taskq.broker_for(app).engine, "enqueue", gone)
    app.register_error_handler(ConnectionClosed, lambda error: ("mine", 503))
    assert view(app, taskq).post("/reports").text == "mine"


def test_two_apps_show_their_own_jobs(taskq):
    """The blueprint asks the app that serves the request."""
    one, two = make_app(taskq, "one"), make_app(taskq, "two")
    with one.app_context():
        job = taskq.broker.get_actor("add").send(1, 2)
    assert one.test_client().get(f"/jobs/{job.id}").status_code == 200
    assert two.test_client().get(f"/jobs/{job.id}").status_code == 404


def test_the_answer_does_not_depend_on_the_apps_json_settings(clock, in_status, app):
    """It is a contract with clients."""
    app.json.sort_keys = True
    app.json.compact = False
    response = app.test_client().get(f"/jobs/{in_status('queued')}")
    assert list(json.loads(response.data)) == MEMBERS


def test_the_routes_need_no_secret_key(taskq):
    """No session is opened."""
    app = make_app(taskq)
    assert isinstance(app, Flask)
    assert app.secret_key is None
    assert "Set-Cookie" not in app.test_client().get(f"/jobs/{generate_id()}").headers


def test_a_damaged_record_is_a_500_that_says_so(taskq, tmp_path, caplog):
    """Other jobs are shown; the log of the app has the id."""
    app = make_app(taskq, broker_url=f"sqlite:///{tmp_path}/jobs.sqlite3")
    with app.app_context():
        good, bad = (taskq.broker.get_actor("add").send(1, 2) for _ in range(2))
    with sqlite3.connect(tmp_path / "jobs.sqlite3") as connection:
        find = "(SELECT seq FROM taskq_job WHERE id = ?)"
        connection.execute(
            f"UPDATE taskq_live SET status = 'asleep' WHERE seq = {find}", (bad.id,)
        )
    connection.close()
    client = app.test_client()

    for response in (client.get(f"/jobs/{bad.id}"), client.delete(f"/jobs/{bad.id}")):
        assert (response.status_code, response.mimetype) == (500, PROBLEM)
        assert response.json["type"].endswith(":job-damaged")
        assert "asleep" not in response.text
    assert client.get(f"/jobs/{good.id}").status_code == 200
    assert f"the stored record of job {bad.id} is damaged" in caplog.text
    taskq.broker_for(app).close()

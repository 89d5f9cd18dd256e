"""Where an app has the routes of its jobs, and what else it may have there."""

from __future__ import annotations

import gc
import logging
import weakref
from urllib.parse import unquote_to_bytes

import pytest
from flask import Blueprint
from flask import Flask
from flask import g
from flask import request
from flask import request_started

from flask_taskq import TaskQ
from flask_taskq.errors import ConfigurationError
from tests.support.apps import make_app

PROBLEM = "application/problem+json"


@pytest.fixture
def taskq(clock):
    taskq = TaskQ(clock=clock)
    taskq.actor(lambda: 1, actor_name="work")
    return taskq


def set_up(taskq, prefix="/jobs", config=None, **options):
    """An app of any kind."""
    app = Flask("app", **options)
    app.config.update({"TASKQ_BROKER_URL": "memory://", "TASKQ_JOBS_URL_PREFIX": prefix})
    app.config.update(config or {})
    taskq.init_app(app)
    return app


def add_view(app, taskq, rule="/go", **options):
    """A view that sends a job."""

    @app.post(rule, **options)
    def go(**variables):
        return taskq.accepted(taskq.broker.get_actor("work").send())


def check_urls(client, url, base_url=None, path="/go"):
    """Send a job by the view: its location and its own address are this, and it is there."""
    sent = client.post(path, base_url=base_url)
    url = url.format(sent.json["id"])
    assert (sent.status_code, sent.headers["Location"], sent.json["self"]) == (202, url, url)
    shown = client.get(url, base_url=base_url)
    assert (shown.status_code, shown.json) == (200, sent.json)
    assert shown.json["links"] == {"cancel": url}
    assert client.delete(url, base_url=base_url).json["status"] == "cancelled"


# Wherever the app puts them


def test_the_routes_can_have_another_name_and_prefix(taskq):
    """Location and self are where they are."""
    app = set_up(taskq, prefix=None)
    app.register_blueprint(taskq.jobs_blueprint(), url_prefix="/tasks", name="tasks")
    add_view(app, taskq)
    check_urls(app.test_client(), "/tasks/{}")


def test_the_routes_can_be_in_a_blueprint_of_the_apps_own(taskq):
    """However deep."""
    app = set_up(taskq, prefix=None)
    inner, outer = Blueprint("inner", "app"), Blueprint("outer", "app")
    inner.register_blueprint(taskq.jobs_blueprint(), url_prefix="/jobs")
    outer.register_blueprint(inner, url_prefix="/v1")
    app.register_blueprint(outer, url_prefix="/api")
    add_view(app, taskq)
    check_urls(app.test_client(), "/api/v1/jobs/{}")


def test_of_two_places_a_job_is_shown_where_it_was_asked_for(taskq):
    """A view that sends one tells of the first."""
    app = set_up(taskq)
    app.register_blueprint(taskq.jobs_blueprint(), url_prefix="/mine", name="mine")
    add_view(app, taskq)
    client = app.test_client()
    check_urls(client, "/jobs/{}")
    job_id = client.post("/go").json["id"]
    assert client.get(f"/mine/{job_id}").json["self"] == f"/mine/{job_id}"


def test_a_prefix_can_have_variables(taskq):
    """They are those of the request."""
    app = set_up(taskq, prefix=None)
    app.register_blueprint(taskq.jobs_blueprint(), url_prefix="/<tenant>/jobs")
    add_view(app, taskq, "/<tenant>/reports")
    check_urls(app.test_client(), "/acme/jobs/{}", path="/acme/reports")


def test_a_prefix_can_have_variables_that_the_app_takes_out(taskq):
    """In Flask's own way: the app adds them to its URLs as well."""
    app = set_up(taskq, prefix=None)

    @app.url_value_preprocessor
    def take(endpoint, values):
        g.tenant = (values or {}).pop("tenant", None)

    @app.url_defaults
    def add(endpoint, values):
        if app.url_map.is_endpoint_expecting(endpoint, "tenant"):
            values.setdefault("tenant", g.tenant)

    app.register_blueprint(taskq.jobs_blueprint(), url_prefix="/<tenant>/jobs")
    add_view(app, taskq, "/<tenant>/reports")
    check_urls(app.test_client(), "/acme/jobs/{}", path="/acme/reports")


def test_without_the_variables_of_the_prefix_there_is_no_address(taskq):
    """Nobody could say which."""
    app = set_up(taskq, prefix=None)
    app.register_blueprint(taskq.jobs_blueprint(), url_prefix="/<tenant>/jobs")
    add_view(app, taskq)
    sent = app.test_client().post("/go")
    assert (sent.status_code, sent.json["self"], sent.json["links"]) == (202, None, {})
    assert "Location" not in sent.headers


@pytest.mark.parametrize(
    "base_url", ["http://shop.test", "http://shop.test:8000", "https://[2001:db8::1]:8000"]
)
def test_an_app_that_matches_hosts_has_the_routes_on_each(taskq, base_url):
    """A location without a host is right on all of them."""
    app = set_up(taskq, host_matching=True, static_host="static.test")
    add_view(app, taskq, host="<host>")
    check_urls(app.test_client(), "/jobs/{}", base_url)


def test_an_app_with_subdomains_has_the_routes_without_one(taskq):
    """From another subdomain the whole URL is told."""
    app = set_up(taskq, config={"SERVER_NAME": "shop.test"}, subdomain_matching=True)
    add_view(app, taskq, subdomain="api")
    client = app.test_client()
    sent = client.post("/go", base_url="http://api.shop.test")
    url = f"http://shop.test/jobs/{sent.json['id']}"
    assert sent.headers["Location"] == url
    path = url.removeprefix("http://shop.test")
    assert client.get(path, base_url="http://shop.test").json["self"] == path


@pytest.mark.parametrize(
    ("prefix", "config", "options", "url"),
    [
        ("/jobs", {}, {}, "/jobs/{}"),
        ("/jobs", {"SERVER_NAME": "shop.test"}, {}, "/jobs/{}"),
        ("/jobs", {"APPLICATION_ROOT": "/root"}, {}, "/root/jobs/{}"),
        ("/jobs", {}, {"host_matching": True, "static_host": "shop.test"}, "/jobs/{}"),
        (None, {}, {}, None),
    ],
)
def test_a_job_knows_its_address_outside_of_a_request(taskq, prefix, config, options, url):
    """In a command, in another job, or where no app is current."""
    app = set_up(taskq, prefix, config, **options)
    other = make_app(taskq, "other", jobs_url_prefix="/elsewhere")
    with app.app_context():
        job = taskq.broker.get_actor("work").send()
        url = None if url is None else url.format(job.id)
        assert job.as_dict()["self"] == url
    assert job.as_dict()["self"] == url
    with other.test_request_context():
        assert job.as_dict()["self"] == url


def test_a_prefix_that_needs_a_request_leaves_a_job_without_an_address_elsewhere(taskq):
    """What the app adds to its URLs is not there."""
    app = set_up(taskq, prefix=None)
    app.register_blueprint(taskq.jobs_blueprint(), url_prefix="/<tenant>/jobs")

    @app.url_defaults
    def add(endpoint, values):
        values["tenant"] = request.args["tenant"]

    with app.app_context():
        assert taskq.broker.get_actor("work").send().as_dict()["self"] is None


# Routes of the app that come later


def get_all(app, *urls):
    """What the app answers with, without propagating its errors."""
    app.config["PROPAGATE_EXCEPTIONS"] = False
    client = app.test_client()
    return [client.get(url).status_code for url in urls]


@pytest.mark.parametrize("rule", ["/jobs", "/jobs/", "/jobs/<slug>", "/jobs/<path:rest>"])
def test_a_route_that_comes_after_the_extension_is_refused_with_the_first_request(taskq, rule):
    """Whatever that asks for: one of the two would hide the other, without a word."""
    app = make_app(taskq)
    app.add_url_rule(rule, endpoint="mine", view_func=lambda **_: "")
    app.testing = True
    with pytest.raises(ConfigurationError, match=f"{rule}.*'mine'.*choose another prefix"):
        app.test_client().get("/elsewhere")


def test_no_request_is_answered_until_that_is_put_right(taskq, caplog):
    """Otherwise nobody would hear of it who misses the first one."""
    app = make_app(taskq)
    app.add_url_rule("/jobs/<slug>", endpoint="mine", view_func=lambda **_: "")
    app.add_url_rule("/", endpoint="index", view_func=lambda: "")
    assert get_all(app, "/", "/", f"/jobs/{'0' * 32}") == [500, 500, 500]
    assert caplog.text.count("choose another prefix") == 3


def test_a_guard_of_the_app_does_not_hide_it(taskq):
    """The app has looked before any of its functions is asked."""
    app = make_app(taskq)
    app.before_request(lambda: ("no", 401))
    app.add_url_rule("/jobs/<slug>", endpoint="mine", view_func=lambda **_: "")
    assert get_all(app, "/") == [500]


def test_a_route_of_a_blueprint_that_comes_later_is_refused(taskq):
    """By its whole name."""
    app = make_app(taskq)
    adverts = Blueprint("adverts", "app")
    adverts.add_url_rule("/<slug>", endpoint="show", view_func=lambda slug: "")
    app.register_blueprint(adverts, url_prefix="/jobs")
    app.testing = True
    with pytest.raises(ConfigurationError, match="'/jobs/<slug>' .endpoint 'adverts.show'"):
        app.test_client().get("/")


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("rule", ["/jobs", "/jobs/<job_id>/feedback"])
def test_the_app_can_have_other_methods_at_the_same_addresses(taskq, rule, early):
    """Such as the one that makes a job."""
    app = Flask("app")
    app.config["TASKQ_BROKER_URL"] = "memory://"
    if not early:
        taskq.init_app(app)
    app.add_url_rule(rule, endpoint="mine", methods=["POST"], view_func=lambda **_: "mine")
    if early:
        taskq.init_app(app)
    assert app.test_client().post(rule.replace("<job_id>", "0" * 32)).text == "mine"


@pytest.mark.parametrize("rule", ["/", "/jobsite", "/api/jobs/<name>", "/<name>"])
def test_a_route_elsewhere_that_comes_later_is_no_matter(taskq, rule):
    """A common beginning is not the prefix."""
    app = make_app(taskq)
    app.add_url_rule(rule, endpoint="mine", view_func=lambda **_: "")
    assert get_all(app, "/elsewhere/at/all") == [404]


def test_a_route_on_another_subdomain_is_no_matter(taskq):
    """It is another address."""
    app = set_up(taskq, config={"SERVER_NAME": "shop.test"}, subdomain_matching=True)
    app.add_url_rule(
        "/jobs/<slug>", endpoint="mine", subdomain="api", view_func=lambda slug: slug
    )
    client = app.test_client()
    assert client.get("/jobs/cook", base_url="http://api.shop.test").text == "cook"
    assert client.get("/jobs/cook", base_url="http://shop.test").mimetype == PROBLEM


def test_the_apps_own_routes_in_the_blueprint_are_no_matter(taskq):
    """They are meant to be there."""
    app = set_up(taskq, prefix="/jobs")
    more = taskq.jobs_blueprint()
    more.add_url_rule("/<job_id>/notes", endpoint="notes", view_func=lambda job_id: "notes")
    app.register_blueprint(more, url_prefix="/jobs/mine", name="mine")
    assert app.test_client().get(f"/jobs/mine/{'0' * 32}/notes").text == "notes"


def test_each_app_is_looked_at_by_itself(taskq):
    """One that is wrong does no harm to another."""
    good, bad = make_app(taskq, "good"), make_app(taskq, "bad")
    bad.add_url_rule("/jobs/<slug>", endpoint="mine", view_func=lambda **_: "")
    good.add_url_rule("/", endpoint="index", view_func=lambda: "")
    assert get_all(good, "/") == [200]
    assert get_all(bad, "/") == [500]
    assert get_all(good, "/") == [200]


def test_after_the_first_request_nobody_looks(taskq):
    """It costs the others nothing."""
    app = make_app(taskq)
    assert request_started.has_receivers_for(app)
    get_all(app, "/")
    assert list(request_started.receivers_for(app)) == []


@pytest.mark.parametrize("answers", [True, False])
def test_an_app_is_not_kept_alive_by_who_looks(taskq, answers):
    """Whether it ever had a request or not."""
    app = make_app(taskq)
    if answers:
        get_all(app, "/")
    reference = weakref.ref(app)
    del app
    gc.collect()
    assert reference() is None


# Ids


@pytest.mark.parametrize(
    "path", ["%ED%A0%80", "%ff", "\ud800", "%00", "0" * 31 + "%ED%B0%80", "%F0%9F%98%80"]
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_id_that_is_no_text_is_unknown(taskq, caplog, path, method):
    """As any other, and never an error of the server."""
    client = make_app(taskq).test_client()
    # A server hands on the bytes of the path, one to a character.
    data = unquote_to_bytes(f"/jobs/{path}".encode("utf-8", "surrogatepass"))
    wsgi = {"PATH_INFO": data.decode("latin-1")}
    response = client.open("/", method=method, environ_overrides=wsgi)
    assert (response.status_code, response.mimetype) == (404, PROBLEM)
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []

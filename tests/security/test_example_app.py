"""The example app, which people copy: forged requests, addresses, files, and texts."""

import os
import stat

import pytest

from example_app import _load_secret_key
from example_app import create_app
from example_app.own_pages import find_path
from example_app.tasks import count_words
from example_app.tests.servers import serve
from flask_taskq.testing import JobTester

pytestmark = pytest.mark.needs("Retries")

OWN = "http://127.0.0.1:5000"


@pytest.fixture
def app(tmp_path):
    return create_app(
        {
            "TESTING": True,
            "SECRET_KEY": "only for tests",
            "TASKQ_BROKER_URL": "memory://",
            "UPLOAD_FOLDER": tmp_path / "uploads",
        }
    )


@pytest.fixture
def jobs(app):
    with JobTester(app) as jobs:
        yield jobs


@pytest.fixture
def client(app):
    return app.test_client()


# A page of another site


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:5000"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_a_request_from_another_site_changes_nothing(client, jobs, headers):
    """Neither the forms nor the routes of the extension, such as the one that cancels."""
    job_id = client.post("/sums", data={"x": 1, "y": 2}).get_json()["id"]
    for method, path in (
        ("POST", "/sums"),
        ("POST", "/summaries"),
        ("POST", f"/results/{job_id}/cancel"),
        ("DELETE", f"/jobs/{job_id}"),
    ):
        form = {"x": 1, "y": 2, "sample": "yes"}
        response = client.open(path, method=method, data=form, headers=headers)
        assert response.status_code == 403
    assert [job.id for job in jobs.enqueued()] == [job_id]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "http://localhost"},
    ],
)
def test_a_request_from_the_apps_own_page_is_taken(client, jobs, headers):
    """And so is one of a program, which says nothing about its origin."""
    response = client.post("/sums", data={"x": 1, "y": 2}, headers=headers)
    assert response.status_code == 202


def test_the_cookie_is_kept_from_scripts_and_other_sites(client, jobs):
    """A forged request would otherwise also write to somebody's list."""
    cookie = client.post("/sums", data={"x": 1, "y": 2}).headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


def test_a_list_that_was_not_signed_is_empty(client, jobs):
    """The ids in a cookie are only what the app has put there."""
    client.set_cookie("session", "eyJqb2JzIjpbIjAiXX0.aaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbb")
    assert "None yet." in client.get("/my-jobs").text


# The key of the signature


def test_the_key_is_made_once_and_for_its_user_alone(tmp_path):
    """All processes of the app, now and later, sign with the same one."""
    path = tmp_path / "instance" / "secret_key"
    key = _load_secret_key(path)
    assert len(key) == 64
    assert _load_secret_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_of_two_processes_that_make_a_key_one_gives_way(tmp_path, monkeypatch):
    """Both have seen that there is none. What the faster one has signed stays good."""
    path = tmp_path / "secret_key"
    link = os.link

    def link_as_the_slower_one(source, target):
        path.write_text("that of the faster one")
        link(source, target)

    monkeypatch.setattr(os, "link", link_as_the_slower_one)
    assert _load_secret_key(path) == "that of the faster one"
    assert list(tmp_path.iterdir()) == [path]


# Addresses


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "http://127.0.0.1/",
        "http://127.0.0.1:6379/",
        "http://127.0.0.1:5000@example.com/",
        "http://127.0.0.1:5000.example.com/",
        "http://user@127.0.0.1:5000/",
        "http://localhost:5000/",
        "http://169.254.169.254/latest/meta-data/",
        "http://0x7f000001:5000/",
        "http://[::1]:5000/",
        "http://[::1",
        "https://127.0.0.1:5000/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:5000/",
        "//127.0.0.1:5000/",
        "/etc/passwd",
        "",
    ],
)
def test_only_the_apps_own_address_is_fetched(client, jobs, url):
    """The view refuses others, and so does the actor: a queue may hold anything."""
    assert client.post("/word-counts", data={"url": url}).status_code == 400
    with pytest.raises(ValueError):
        jobs.perform(count_words, url)


def test_the_host_that_a_request_names_is_not_the_apps_own(client, jobs):
    """The client chooses it."""
    response = client.post(
        "/word-counts",
        data={"url": "http://internal.example/"},
        base_url="http://internal.example",
    )
    assert response.status_code == 400


@pytest.mark.parametrize(
    "url",
    [f"{OWN}/a\r\nX-Evil: 1", f"{OWN}/a b HTTP/1.1", f"{OWN}/\x00\x7f", f"{OWN}/ü?é=1 2"],
)
def test_an_address_cannot_add_to_the_request(url):
    """What has a meaning in HTTP is quoted or dropped."""
    path = find_path(url, OWN)
    assert path.startswith("/")
    assert path.isascii() and path.isprintable() and " " not in path


def test_a_redirect_is_not_followed(app, jobs):
    """It could lead out of the app, past the check of the address."""
    app.add_url_rule("/away", view_func=lambda: ("", 302, {"Location": "http://0.0.0.0:1/"}))
    with serve(app) as url:
        app.config["OWN_URL"] = url
        with pytest.raises(ValueError, match="302"):
            jobs.perform(count_words, f"{url}/away")


# Texts


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/emails", {"to": "<b>@example.com"}),
        ("/word-counts", {"url": "http://<script>alert(1)</script>/"}),
        ("/word-counts", {"url": f"{OWN}/<script>alert(1)</script>"}),
    ],
)
def test_what_a_user_says_is_shown_as_text(client, jobs, path, form):
    """On the page of the job, on the list of jobs, and in errors."""
    headers = {"Accept": "text/html"}
    client.post(path, data=form, headers=headers, follow_redirects=True)
    pages = [
        client.post(path, data=form, headers=headers, follow_redirects=True).text,
        client.get("/my-jobs").text,
    ]
    for page in pages:
        assert "<script>alert" not in page
        assert "<b>@" not in page


def test_a_name_of_a_file_is_shown_as_text(client, jobs):
    """It is the title of the page, too."""
    name = "<img src=x onerror=alert(1)>.csv"
    form = {"file": (open(__file__, "rb"), name)}
    with form["file"][0]:
        page = client.post(
            "/summaries", data=form, headers={"Accept": "text/html"}, follow_redirects=True
        )
    assert "&lt;img" in page.text
    assert "<img src=x" not in page.text

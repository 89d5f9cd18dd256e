"""The pages, as a browser without JavaScript sees them, and the headers of all of them."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from example_app.pages import MAX_LISTED
from flask_taskq.testing import JobTester

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def submit(client: FlaskClient, content: bytes) -> TestResponse:
    """What a browser does: send the form, and follow the redirect."""
    data = {"file": (io.BytesIO(content), "data.csv")}
    response = client.post("/summaries", data=data, headers=BROWSER)
    assert response.status_code == 303
    return client.get(response.location, headers=BROWSER)


def test_the_form_works_without_javascript(client: FlaskClient, taskq_jobs: JobTester) -> None:
    """The page loads itself again while the job waits, and then shows the table."""
    page = submit(client, b"city,visits\nGraz,1200\nLinz,3.5\n")
    assert '<meta http-equiv="refresh"' in page.text
    assert "queued" in page.text
    taskq_jobs.drain()
    page = client.get(page.request.path)
    assert "refresh" not in page.text
    assert "2 rows in" in page.text
    assert "1,200" in page.text


def test_a_failed_job_shows_its_reason(client: FlaskClient, taskq_jobs: JobTester) -> None:
    """What the actor raised stands there once, and no further attempt is promised."""
    page = submit(client, b"a,b\n1\n")
    taskq_jobs.drain(raise_failures=False)
    page = client.get(page.request.path, headers=BROWSER)
    assert page.text.count("number of cells is 1, not 2.") == 1
    assert "Attempt" not in page.text


def test_the_button_of_a_job_cancels_it(client: FlaskClient, taskq_jobs: JobTester) -> None:
    """It has no result and no exception, yet the page has something to say."""
    page = submit(client, b"a,b\n1,2\n")
    [action] = re.findall('action="(/results/.*/cancel)"', page.text)
    response = client.post(action, headers=BROWSER)
    assert response.status_code == 303
    assert "The job was cancelled." in client.get(response.location).text
    assert taskq_jobs.drain() == []


def test_a_retry_is_announced(client: FlaskClient, taskq_jobs: JobTester) -> None:
    """With the number of the attempt, its error, and when the next one starts."""
    form = {"to": "ada@example.com", "failing": "100"}
    page = client.get(client.post("/emails", data=form, headers=BROWSER).location)
    taskq_jobs.run_next()
    page = client.get(page.request.path)
    assert "retrying" in page.text
    assert "Attempt 1 of 5 failed." in page.text
    [seconds] = re.findall(r"data-seconds>(\d+)<", page.text)
    assert 2 <= int(seconds) <= 4
    assert "The mail server hung up" in page.text
    taskq_jobs.drain(raise_failures=False)
    page = client.get(page.request.path)
    assert page.text.count("The mail server hung up") == 6


def test_a_browser_sees_the_jobs_that_it_has_sent(
    app: Flask, client: FlaskClient, taskq_jobs: JobTester
) -> None:
    """The newest first; another browser sees none of them."""
    for x in (1, 2):
        client.post("/sums", data={"x": x, "y": 10})
    page = client.get("/my-jobs").text
    assert 0 < page.index("2 + 10") < page.index("1 + 10")
    assert "None yet." in app.test_client().get("/my-jobs").text


def test_the_list_of_jobs_has_an_end(client: FlaskClient, taskq_jobs: JobTester) -> None:
    """It is in a cookie, and browsers drop one that is larger than 4 KiB."""
    for x in range(MAX_LISTED + 5):
        response = client.post("/sums", data={"x": x, "y": 0})
    assert client.get("/my-jobs").text.count("<article") == MAX_LISTED
    assert len(response.headers["Set-Cookie"]) < 2_000


def test_a_job_that_is_forgotten_leaves_the_list(
    client: FlaskClient, taskq_jobs: JobTester
) -> None:
    """Its record was kept for as long as the app wants."""
    client.post("/sums", data={"x": 1, "y": 2})
    with client.session_transaction() as session:
        session["jobs"] = [*session["jobs"], "0" * 32]
    assert client.get("/my-jobs").text.count("<article") == 1


def test_what_a_file_says_is_shown_as_text(client: FlaskClient, taskq_jobs: JobTester) -> None:
    """A cell is no markup."""
    page = submit(client, b"<b>name</b>\n<script>alert(1)</script>\n")
    taskq_jobs.drain()
    page = client.get(page.request.path)
    assert "&lt;script&gt;" in page.text
    assert "<b>name" not in page.text


@pytest.mark.parametrize(
    ("data", "status", "text"),
    [
        ({}, 400, "Choose a file first."),
        ({"file": (io.BytesIO(b""), "")}, 400, "Choose a file first."),
        ({"file": (io.BytesIO(b""), "empty.csv")}, 400, "The file is empty."),
        ({"file": (io.BytesIO(bytes(2_000)), "big.csv")}, 413, "exceeds the capacity limit"),
    ],
)
@pytest.mark.parametrize("headers", [{}, BROWSER])
def test_a_bad_form_is_refused_at_once(
    app: Flask,
    client: FlaskClient,
    taskq_jobs: JobTester,
    data: dict[str, Any],
    status: int,
    text: str,
    headers: dict[str, str],
) -> None:
    """As a problem for the script, as a page for the browser, and without a job."""
    app.config["MAX_CONTENT_LENGTH"] = 1_000
    data = {name: (io.BytesIO(file.getvalue()), title) for name, (file, title) in data.items()}
    response = client.post("/summaries", data=data, headers=headers)
    assert response.status_code == status
    assert text in response.text
    assert response.mimetype == ("text/html" if headers else "application/problem+json")
    assert taskq_jobs.enqueued() == []


@pytest.mark.parametrize(
    ("path", "data", "text"),
    [
        ("/sums", {"x": "1"}, "Two whole numbers"),
        ("/sums", {"x": "1", "y": "1e3"}, "Two whole numbers"),
        ("/sums", {"x": "1", "y": "9" * 30}, "Two whole numbers"),
        ("/emails", {"to": "ada"}, "no address"),
        ("/emails", {"to": "ada@example.com\nBcc: all@example.com"}, "no address"),
        ("/word-counts", {}, "Only pages of this app"),
        ("/word-counts", {"url": "http://example.com/"}, "Only pages of this app"),
    ],
)
def test_what_an_actor_could_not_use_is_refused_at_once(
    client: FlaskClient,
    taskq_jobs: JobTester,
    path: str,
    data: dict[str, str],
    text: str,
) -> None:
    """The user reads why, and no job is sent for it."""
    response = client.post(path, data=data)
    assert response.status_code == 400
    assert text in response.get_json()["detail"]
    assert taskq_jobs.enqueued() == []


def test_an_unknown_job_is_a_404(client: FlaskClient) -> None:
    """Whether the id is malformed or was never given."""
    for job_id in ("nonsense", "0" * 32):
        assert client.get(f"/results/{job_id}", headers=BROWSER).status_code == 404


@pytest.mark.parametrize("path", ["/", "/static/jobs.js", "/nowhere", f"/jobs/{'0' * 32}"])
def test_every_answer_has_a_strict_policy(client: FlaskClient, path: str) -> None:
    """Scripts and styles come from the app's own files, and from nowhere else."""
    with client.get(path) as response:
        policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy


def test_no_page_needs_what_the_policy_forbids(
    client: FlaskClient, taskq_jobs: JobTester
) -> None:
    """No inline script or style, and nothing from another host."""
    waiting = submit(client, b"a,b\n1,2\n")
    taskq_jobs.drain()
    for page in (client.get("/"), waiting, client.get(waiting.request.path)):
        for forbidden in (
            "<script>",
            "<style",
            " style=",
            " onclick=",
            'src="http',
            'href="http',
        ):
            assert forbidden not in page.text

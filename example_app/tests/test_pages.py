"""The pages, as a browser without JavaScript sees them, and the headers of all of them."""

from __future__ import annotations

import io
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_taskq.testing import drain

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def submit(client: FlaskClient, content: bytes) -> TestResponse:
    """What a browser does: send the form, and follow the redirect."""
    data = {"file": (io.BytesIO(content), "data.csv")}
    response = client.post("/summaries", data=data, headers=BROWSER)
    assert response.status_code == 303
    return client.get(response.location, headers=BROWSER)


def test_the_form_works_without_javascript(app: Flask, client: FlaskClient) -> None:
    """The page loads itself again while the job waits, and then shows the table."""
    page = submit(client, b"city,visits\nGraz,1200\nLinz,3.5\n")
    assert '<meta http-equiv="refresh"' in page.text
    assert "queued" in page.text
    drain(app)
    page = client.get(page.request.path)
    assert "refresh" not in page.text
    assert "2 rows in" in page.text
    assert "1,200" in page.text


def test_a_failed_job_shows_its_reason_and_the_form(app: Flask, client: FlaskClient) -> None:
    """The form is there again, for another file."""
    page = submit(client, b"a,b\n1\n")
    drain(app)
    page = client.get(page.request.path, headers=BROWSER)
    assert "number of cells is 1, not 2." in page.text
    assert "<form" in page.text


def test_a_cancelled_job_says_so(client: FlaskClient) -> None:
    """It has no result and no exception, yet the page has something to say."""
    page = submit(client, b"a,b\n1,2\n")
    job_id = page.request.path.rpartition("/")[2]
    assert client.delete(f"/jobs/{job_id}").status_code == 200
    assert "The job is cancelled." in client.get(page.request.path).text


def test_what_a_file_says_is_shown_as_text(app: Flask, client: FlaskClient) -> None:
    """A cell is no markup."""
    page = submit(client, b"<b>name</b>\n<script>alert(1)</script>\n")
    drain(app)
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
    assert drain(app) == []


def test_an_unknown_summary_is_a_404(client: FlaskClient) -> None:
    """Whether the id is malformed or was never given."""
    for job_id in ("nonsense", "0" * 32):
        assert client.get(f"/summaries/{job_id}", headers=BROWSER).status_code == 404


@pytest.mark.parametrize("path", ["/", "/static/upload.js", "/nowhere", f"/jobs/{'0' * 32}"])
def test_every_answer_has_a_strict_policy(client: FlaskClient, path: str) -> None:
    """Scripts and styles come from the app's own files, and from nowhere else."""
    with client.get(path) as response:
        policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy


def test_no_page_needs_what_the_policy_forbids(app: Flask, client: FlaskClient) -> None:
    """No inline script or style, and nothing from another host."""
    waiting = submit(client, b"a,b\n1,2\n")
    drain(app)
    for page in (client.get("/"), waiting, client.get(waiting.request.path)):
        for forbidden in ("<script>", "<style", " style=", " onclick=", "http://", "https://"):
            assert forbidden not in page.text

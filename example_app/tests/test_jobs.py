"""From the upload to the result, without a worker: drain() runs what was sent."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from example_app.pages import SAMPLE
from example_app.pages import UPLOAD_TTL
from flask_taskq.testing import drain


def upload(client: FlaskClient, content: bytes, name: str = "data.csv") -> TestResponse:
    return client.post("/summaries", data={"file": (io.BytesIO(content), name)})


def run(app: Flask, client: FlaskClient, content: bytes) -> dict[str, Any]:
    """Upload, let the job run, and ask for it."""
    response = upload(client, content)
    assert response.status_code == 202
    drain(app)
    job: dict[str, Any] = client.get(response.location).get_json()
    return job


def test_an_upload_is_answered_before_it_is_read(client: FlaskClient) -> None:
    """The view sends the job and says where to ask for it, and when."""
    response = upload(client, b"a,b\n1,2\n")
    assert response.status_code == 202
    assert response.location == f"/jobs/{response.get_json()['id']}"
    assert int(response.headers["Retry-After"]) >= 1
    assert client.get(response.location).get_json()["status"] == "queued"


def test_the_job_summarises_the_file(app: Flask, client: FlaskClient) -> None:
    """Once it has run, the job's resource holds the result."""
    job = run(app, client, b"city,visits\nGraz,3\nGraz,5\nLinz,\n")
    assert job["status"] == "succeeded"
    assert job["result"]["title"] == "data.csv"
    assert job["result"]["rows"] == 3
    city, visits = job["result"]["columns"]
    assert city["most_frequent"][0] == {"value": "Graz", "count": 2}
    assert (visits["missing"], visits["min"], visits["mean"], visits["max"]) == (1, 3, 4, 5)


def test_the_sample_can_be_summarised_without_an_upload(
    app: Flask, client: FlaskClient
) -> None:
    """The second button of the form sends the file that comes with the app."""
    response = client.post("/summaries", data={"sample": "yes"})
    drain(app)
    assert client.get(response.location).get_json()["result"]["rows"] == 200
    with client.get("/sample.csv") as download:
        assert download.data == SAMPLE.read_bytes()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"a,b\n1,2\n3\n", "number of cells is 1, not 2."),
        (b'a,b\n"1,2\n', "Line 2 is not CSV"),
        (b"\x89PNG\r\n\x1a\n\x00", "not a text file in UTF-8"),
        (b"only,a,header\n", "nothing to summarise"),
        (b"," * 300 + b"\n" + b"," * 300, "301 columns"),
    ],
)
def test_a_bad_file_fails_the_job_with_a_reason(
    app: Flask, client: FlaskClient, content: bytes, error: str
) -> None:
    """What the actor raises is what the user reads; the job does not run again."""
    job = run(app, client, content)
    assert (job["status"], job["attempt"], job["result"]) == ("failed", 1, None)
    assert error in job["error"]["detail"]


def test_a_file_that_is_gone_fails_the_job_with_a_reason(
    app: Flask, client: FlaskClient, tmp_path: Path
) -> None:
    """The job may have waited for longer than uploads are kept."""
    response = upload(client, b"a,b\n1,2\n")
    for path in (tmp_path / "uploads").iterdir():
        path.unlink()
    drain(app)
    error = client.get(response.location).get_json()["error"]
    assert error["detail"] == "The file is no longer there. Upload it again."


def test_the_name_of_an_upload_is_no_path(client: FlaskClient, tmp_path: Path) -> None:
    """Files get random names, so that nobody can choose where they are written."""
    upload(client, b"a,b\n1,2\n", name="../../evil.csv")
    [path] = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert path.parent == tmp_path / "uploads"
    assert "evil" not in path.name


def test_old_uploads_are_removed_with_the_next_one(client: FlaskClient, tmp_path: Path) -> None:
    """Not by the job, which may have to run again."""
    upload(client, b"a,b\n1,2\n")
    [old] = (tmp_path / "uploads").iterdir()
    long_ago = old.stat().st_mtime - UPLOAD_TTL - 60
    os.utime(old, (long_ago, long_ago))
    upload(client, b"a,b\n1,2\n")
    assert not old.exists()
    assert len(list((tmp_path / "uploads").iterdir())) == 1
